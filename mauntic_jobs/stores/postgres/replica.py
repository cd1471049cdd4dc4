"""Read replica: a second server that is asked what only reads, once it has seen what the primary has committed."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from mauntic_jobs.errors import ConfigurationError, MaunticJobsError, UnavailableError
from mauntic_jobs.job import Row

if TYPE_CHECKING:
    from mauntic_jobs.stores.postgres.session import Session

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.01, 0.5

# The end of a record of its own in the WAL: what is seen committed by now was committed before it. Its commit
# has the server write it down, and so send it. The insert position itself may never be reached: it can lie behind the
# header of a page that is not begun yet, or behind records that wait to be flushed.
_MARK = b"""
SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'mauntic-jobs', '')::text AS mark
"""
_IDENTITY = b"""
SELECT system_identifier AS cluster, current_database() AS database, pg_is_in_recovery() AS standby
FROM pg_control_system()
"""
# The standby's clock is not asked: it may differ from ours.
_PROGRESS = b"""
SELECT pg_is_in_recovery() AS standby, pg_last_wal_replay_lsn() >= %(mark)s::pg_lsn AS reached,
       greatest(pg_wal_lsn_diff(%(mark)s::pg_lsn, pg_last_wal_replay_lsn()), 0)::bigint AS bytes_behind
"""


class ReadReplica:
    """The connections to a replica, shown as `name`, and to its primary, each opened at its first use.

    The one to the primary is not that of a run, whose transaction is open and cannot commit a mark.
    """

    def __init__(self, name: str, open_replica: "Callable[[], Session]", open_primary: "Callable[[], Session]") -> None:
        self._name = name
        self._open_replica, self._open_primary = open_replica, open_primary
        self._replica: Session | None = None
        self._primary: Session | None = None

    def caught_up(self, patience: timedelta) -> "Session":
        """Return a connection to the replica, which sees all that is committed on the primary by now.

        Raises UnavailableError if it is not that far after `patience`, and ConfigurationError if it is no replica of
        the primary.
        """
        replica, primary = self._connected()
        mark = primary.row(_MARK)["mark"]
        deadline, pause = time.monotonic() + patience.total_seconds(), _FIRST_PAUSE_SECONDS
        while not (progress := replica.row(_PROGRESS, {"mark": mark}))["reached"]:
            self._check_standby(progress)
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"The read replica {self._name} is {progress['bytes_behind']:,} bytes of WAL behind the primary "
                    f"after {patience.total_seconds():g} s: what it counted would be too low. Look at its replication, "
                    "or unset DATABASE_READ_URL, so that the primary is read."
                )
            time.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)
        self._check_standby(progress)
        return replica

    def cancel(self) -> None:
        """Cancel what the replica is doing; safe to call from another thread."""
        if self._replica is not None:
            self._replica.cancel()

    def close(self) -> None:
        """Close the connections."""
        for session in (self._replica, self._primary):
            if session is not None:
                session.close()

    def _connected(self) -> "tuple[Session, Session]":
        primary = self._primary
        if primary is None or primary.broken:
            primary = self._primary = self._open_primary()
        replica = self._replica
        if replica is None or replica.broken:
            replica = self._open_replica()
            try:
                self._check(replica, primary)
            except MaunticJobsError:
                replica.close()
                raise
            self._replica = replica
        return replica, primary

    def _check(self, replica: "Session", primary: "Session") -> None:
        """Raise ConfigurationError if what was opened is no replica of the primary."""
        theirs, ours = replica.row(_IDENTITY), primary.row(_IDENTITY)
        self._check_standby(theirs)
        if (theirs["cluster"], theirs["database"]) != (ours["cluster"], ours["database"]):
            raise self._refusal("it has another database")

    def _check_standby(self, server: Row) -> None:
        if not server["standby"]:
            raise self._refusal("it is no standby")

    def _refusal(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"The server {self._name} is no read replica of DATABASE_URL: {why}. Set DATABASE_READ_URL to a streaming "
            "replica of that very database, or unset it."
        )
