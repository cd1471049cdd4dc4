"""Commands of the delivery ledger."""
