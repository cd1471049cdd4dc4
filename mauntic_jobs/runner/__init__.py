"""Runner of jobs: claim, attempts, ledger, result."""
