"""The command `deliver`."""
