"""Speech with transcripts, and examples made of it."""
