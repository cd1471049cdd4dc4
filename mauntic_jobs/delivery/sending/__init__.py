"""Exchanges with providers."""
