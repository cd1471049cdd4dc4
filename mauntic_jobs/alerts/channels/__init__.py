"""The ways alerts go out: one file for each type of channel."""
