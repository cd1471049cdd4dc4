"""Work that was given up: the failed jobs of the platform's queues, and the failed runs of the ledger."""
