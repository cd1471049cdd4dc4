"""Indexes on partitioned tables, built partition by partition."""

from collections.abc import Callable, Sequence

from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

_sql = statements("partitioned_indexes")


def partitioned(session: Session, tables: Sequence[str]) -> frozenset[str]:
    """Return those of the tables that are partitioned."""
    return frozenset(row["name"] for row in session.rows(_sql["partitioned"], {"tables": list(dict.fromkeys(tables))}))


def build_on_partitions(session: Session, table: str, name: str, log: Callable[[str], None]) -> None:
    """Give every partition its part of the index `name` on `table`; what an earlier build did is kept.

    Raises ConflictError where a partition holds duplicates of a unique key.
    """
    while lacking := session.rows(_sql["next"], {"table": table, "name": name}):
        (part,) = lacking
        if part["present"] and not part["built"]:
            session.execute_alone(part["drop_sql"].encode())
        if not part["built"]:
            session.execute_alone(part["build_sql"].encode())
            log(f"built {name} on {part['partition']}")
        session.execute(part["attach_sql"].encode())
