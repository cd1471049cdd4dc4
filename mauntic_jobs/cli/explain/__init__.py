"""The commands `explain`."""
