"""The Speech-Transformer: corpora, features, model, quantization, training, evaluation."""

import os

# TensorFlow Model Optimization works with Keras 2; both must be set before TensorFlow is imported.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# Errors come as exceptions, too; what TensorFlow writes itself is about graphics cards.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
