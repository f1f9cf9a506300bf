"""Sound: audio, its features, and where speech begins and ends."""
