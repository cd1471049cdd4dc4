"""The schema `mauntic_jobs`, migration by migration, and the indexes on the platform's tables."""
