"""Alerts: sent once to the on-call engineer, and once more when they are over."""
