"""The scheduled jobs, one file each, and their registry."""
