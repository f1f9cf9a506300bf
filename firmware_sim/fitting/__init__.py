"""Whether a bundle fits a device."""
