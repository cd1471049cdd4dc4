"""Installation that a command works with: its settings, its jobs, the instant of asking, and its stores."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from mauntic_jobs.job import AnyJob
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, open_session
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis


class Installation:
    """Settings, jobs and stores, each store opened at its first use unless it is given; opening it may raise.

    `now` is the instant of asking, aware, in UTC. `jobs` are as the settings want them scheduled. As a context manager
    it closes the stores.
    """

    def __init__(
        self,
        settings: Settings,
        now: datetime,
        jobs: Sequence[AnyJob] = (),
        *,
        session: Session | None = None,
        redis: RedisScripts | None = None,
    ) -> None:
        self.settings, self.now, self.jobs = settings, now, jobs
        self._session, self._redis = session, redis

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

    def connect(self) -> Self:
        """Open both stores now, and return the installation. Raises UnavailableError or ConfigurationError."""
        _ = self.session, self.redis
        return self

    def cancel(self) -> None:
        """Cancel what Postgres is doing for this installation; safe to call from another thread."""
        if self._session is not None:
            self._session.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for store in (self._redis, self._session):
            if store is not None:
                store.close()
