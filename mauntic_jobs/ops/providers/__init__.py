"""The organizations' providers."""
