"""The Speech-Transformer, in float and in 8 bits."""
