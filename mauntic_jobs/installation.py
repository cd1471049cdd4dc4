"""Installation that a command works with: its settings, its jobs, the instant of asking, and the connections."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Self

from mauntic_jobs.job import AnyJob
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, open_session
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis


@dataclass
class Installation:
    """Settings, jobs and stores, each store opened at its first use; what raises is what opening it raises.

    `now` is the instant of asking, aware, in UTC. `jobs` are as the settings want them scheduled.
    """

    settings: Settings
    now: datetime
    jobs: Sequence[AnyJob] = ()
    _session: Session | None = field(default=None, repr=False)
    _redis: RedisScripts | None = field(default=None, repr=False)

    @property
    def session(self) -> Session:
        """The connection to Postgres, opened again where it was lost."""
        if self._session is None or self._session.broken:
            self._session = open_session(self.settings)
        return self._session

    @property
    def redis(self) -> RedisScripts:
        """The connection to Redis."""
        if self._redis is None:
            self._redis = open_redis(self.settings)
        return self._redis

    def cancel(self) -> None:
        """Cancel what Postgres is doing for this installation; safe to call from another thread."""
        if self._session is not None:
            self._session.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._redis is not None:
            self._redis.close()
        if self._session is not None:
            self._session.close()
