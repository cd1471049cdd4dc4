"""Locks of the buckets that jobs rebuild, so that writers of the same day or month take turns."""

from mauntic_jobs.job import Transaction
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.window import Window

_sql = statements("runs")


def lock_bucket(transaction: Transaction, job: str, bucket: Window | None) -> None:
    """Keep other transactions from the same bucket of a job until this one ends; None is the job as a whole."""
    transaction.rows(_sql["lock_bucket"], {"bucket": f"mauntic-jobs/{job}/{bucket or ''}"})
