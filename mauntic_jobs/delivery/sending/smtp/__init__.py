"""SMTP client."""
