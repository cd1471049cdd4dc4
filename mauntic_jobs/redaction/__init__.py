"""Redaction of addresses, texts and payloads."""
