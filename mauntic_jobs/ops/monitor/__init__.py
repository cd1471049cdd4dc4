"""Conditions that need an operator."""
