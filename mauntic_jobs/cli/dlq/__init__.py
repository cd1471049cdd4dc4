"""Commands of the dead letters."""
