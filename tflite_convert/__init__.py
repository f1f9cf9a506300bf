"""Conversion of a trained model to a bundle of TFLite flatbuffers, and its proofs."""
