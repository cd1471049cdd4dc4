"""Delivery ledger in Postgres."""
