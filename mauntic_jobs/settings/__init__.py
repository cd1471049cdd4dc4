"""Settings of the toolkit and the kinds of their values."""
