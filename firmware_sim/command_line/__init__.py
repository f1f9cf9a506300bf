"""What the commands share: their flags, and how they end."""
