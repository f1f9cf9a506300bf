"""Grammars of phrases: read, compiled, and what a text means."""
