"""Runtimes: they run the two models of a bundle."""
