"""How a job is run: claim, attempts, ledger, result."""
