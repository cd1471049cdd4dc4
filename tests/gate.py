"""A gate in the database: a process that writes a table waits there, in mid-write, until it is let through or dies."""

import subprocess

from mauntic_jobs.stores.postgres.session import Session
from tests.support import wait_until

_GATE = """
CREATE TABLE gate (row int NOT NULL);
CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    written int := coalesce(nullif(current_setting('gate.written', true), ''), '0')::int + 1;
BEGIN
    PERFORM set_config('gate.written', written::text, true);
    IF EXISTS (SELECT FROM gate WHERE row = written) THEN
        PERFORM pg_advisory_xact_lock_shared(42);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER pass_gate BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION pass_gate();
"""
_AT_GATE = b"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"


class Gate:
    """Holds whoever inserts the n-th row of its transaction into `table`. `keeper` must not go through a pooler."""

    def __init__(self, keeper: Session, table: str) -> None:
        self._keeper = keeper
        self._seen: set[int] = set()  # the server may hold on to the wait of a process that was killed
        keeper.execute(_GATE.format(table=table).encode())

    def close_at(self, row: int) -> None:
        self._keeper.execute(b"DELETE FROM gate")
        self._keeper.execute(b"INSERT INTO gate VALUES (%(row)s)", {"row": row})
        self._keeper.rows(b"SELECT pg_advisory_lock(42)")

    def open(self) -> None:
        self._keeper.rows(b"SELECT pg_advisory_unlock_all()")

    def wait_for_writer(self, process: subprocess.Popen[str]) -> None:
        def waits() -> bool:
            assert process.poll() is None, process.communicate()
            return bool(self._waiting() - self._seen)

        wait_until(waits, "a process at the gate")
        self._seen |= self._waiting()

    def _waiting(self) -> set[int]:
        return {row["pid"] for row in self._keeper.rows(_AT_GATE)}
