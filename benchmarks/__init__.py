"""Measurements of a bundle; each module prints a table, see README.md."""
