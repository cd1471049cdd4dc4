"""Warm-up of sending domains: how long it takes, and the keys of its counters in Redis."""
