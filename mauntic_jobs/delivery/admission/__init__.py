"""Admission of messages: rate limits of providers, shared by all processes, and turns of organizations."""
