"""Sample activity, and the demo that aggregates it: for a first look, development and tests."""
