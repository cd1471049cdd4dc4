"""What the outside is told."""
