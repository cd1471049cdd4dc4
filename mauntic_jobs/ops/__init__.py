"""Answers for on-call engineers."""
