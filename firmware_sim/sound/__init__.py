"""From audio to features, and where speech is."""
