"""The commands `show`."""
