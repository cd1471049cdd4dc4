"""Commands of the scheduled jobs."""
