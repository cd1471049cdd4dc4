"""Checks of an installation, one area a file."""
