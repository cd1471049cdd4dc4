"""Message delivery: consumer loops on BullMQ queues, and the ledger in Postgres that decides what is sent."""
