"""The command `coverage`."""
