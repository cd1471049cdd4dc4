"""Filters of dead letters."""
