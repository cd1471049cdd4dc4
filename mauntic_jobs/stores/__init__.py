"""The outside services. Nothing else imports their drivers."""
