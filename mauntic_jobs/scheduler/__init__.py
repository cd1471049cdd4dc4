"""Schedule of the jobs."""
