"""The float stage on a machine with a GPU and JAX."""
