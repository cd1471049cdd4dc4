"""Conditions that raise alerts, one a file."""
