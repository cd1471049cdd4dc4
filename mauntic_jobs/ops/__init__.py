"""What an on-call engineer asks."""
