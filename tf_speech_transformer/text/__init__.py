"""Texts and their units."""
