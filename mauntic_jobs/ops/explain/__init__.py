"""Explanation of one delivery: why it is where it is, what it waits for, and how many come before it."""
