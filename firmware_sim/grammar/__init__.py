"""Grammars of spoken commands: phrases, their automaton, and what a text means."""
