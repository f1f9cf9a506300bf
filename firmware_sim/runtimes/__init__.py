"""What runs the two models of a bundle."""
