"""Status of an installation."""
