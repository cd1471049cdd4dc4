"""Queries over many rows, whose results go into a temporary table: in parts side by side, or from a read replica."""

from mauntic_jobs.stores.postgres.session import Limits, Parameters, Session

# A plan that shares each scan out passes every row on to one process, which then is the bottleneck. The rows of a part
# are hashed, which is quicker than to sort them, also where the statistics make the planner expect few.
_IN_PARTS = b"SELECT set_config('min_parallel_table_scan_size', '1TB', true), set_config('enable_sort', 'off', true)"
_AS_BEFORE = b"SET LOCAL min_parallel_table_scan_size TO DEFAULT; SET LOCAL enable_sort TO DEFAULT"


def gather(session: Session, table: bytes, query: bytes, parameters: Parameters, *, in_parts: bool) -> None:
    """Have the session's own server put what a query finds in a temporary table."""
    if in_parts:
        session.execute(_IN_PARTS)
    # Postgres scans in parallel for this statement, but not for INSERT ... SELECT.
    session.execute(_create(table, query), parameters)
    if in_parts:
        session.execute(_AS_BEFORE)


def fetch(
    session: Session,
    source: Session,
    limits: Limits,
    table: bytes,
    query: bytes,
    parameters: Parameters,
    *,
    in_parts: bool,
) -> None:
    """Put what a query finds on another server in a temporary table of the session's.

    The session's server waits for the rows within a statement, so that its transaction is not idle meanwhile.
    """
    session.execute(_create(table, query) + b" WITH NO DATA", parameters)
    with source.transaction(limits):
        if in_parts:
            source.execute(_IN_PARTS)
        found = source.copy_out(b"COPY (" + query + b") TO STDOUT (FORMAT binary)", parameters)
        session.copy_in(b"COPY pg_temp." + table + b" FROM STDIN (FORMAT binary)", found)


def _create(table: bytes, query: bytes) -> bytes:
    return b"CREATE TEMPORARY TABLE " + table + b" ON COMMIT DROP AS " + query
