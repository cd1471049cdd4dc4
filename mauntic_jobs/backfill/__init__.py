"""Backfills: many windows of a job, run one by one, with a record of which are done."""
