"""Scheduled jobs and message delivery for the Mauntic marketing platform."""

__version__ = "0.2.0"
