"""Checks of a whole installation: a file for each area, with its checks."""
