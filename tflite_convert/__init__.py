"""Conversion of a trained model to a bundle of TFLite flatbuffers, and its proofs."""

import tf_speech_transformer  # noqa: F401 - sets up TensorFlow before its import
