"""The platform's template language."""
