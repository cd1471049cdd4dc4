"""Messages as providers send them."""
