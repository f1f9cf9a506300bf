"""Measurements of a bundle; each module prints a table, see README.md."""

import tf_speech_transformer  # noqa: F401 - sets up TensorFlow before its import
