"""Containers: what holds sound, recognised by its first bytes and mended where its header lies."""
