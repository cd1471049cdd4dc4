"""Processes that deliver."""
