"""Counts of the raw events of a range of time, in one process of Postgres or, where they are many, in two."""

from mauntic_jobs.job import Row, Transaction
from mauntic_jobs.sql import statements

# Fewer are counted within seconds, and leave a processor to others: the second process reads all events again.
MANY_EVENTS = 2_000_000
_HALVES = (b"0", b"1")

_sql = statements("event_counts")

COUNT = _sql["count"]


def count_events(transaction: Transaction, query: bytes, parameters: Row) -> None:
    """Count the events of a bucket in the temporary table mauntic_jobs_counted.

    Many events are counted by two processes, each of which reads all and groups those of one half of the contacts:
    half of the work and of the memory each, and the distinct contacts of the halves add up. `query` counts those of its
    parameter `half`, of all contacts if that is null.
    """
    in_halves = _are_many(transaction, parameters)
    if in_halves:
        query = b" UNION ALL ".join(b"(" + query.replace(b"%(half)s", half) + b")" for half in _HALVES)
    transaction.gather("mauntic_jobs_counted", query, {**parameters, "half": None}, in_parts=in_halves)


def _are_many(transaction: Transaction, parameters: Row) -> bool:
    """Return whether there are many events to count, by the statistics and by what is recorded already."""
    if parameters["organizations"] is not None or parameters["share"] is not None:
        return False
    (plan,) = transaction.row(_sql["planned"], parameters)["QUERY PLAN"]
    planned: int = plan["Plan"]["Plan Rows"]
    recorded: int = transaction.row(_sql["recorded"], parameters)["events"]
    return max(planned, recorded) >= MANY_EVENTS
