"""Watch for a loss of Redis' data, beside the consumers of a process."""

import asyncio
from collections.abc import Callable
from contextlib import closing

from mauntic_jobs.aio.idle_mode import IdleMode
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.recovery.marker import Loss, mark_in_redis, raise_marker
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock

_PAUSE_SECONDS = 60.0


async def watch_redis(settings: Settings, log: Callable[[str], None], idle: IdleMode) -> None:
    """Raise the marker once a minute, in idle mode in Redis alone, and say once that data was lost.

    Ends only by being cancelled.
    """
    watch = _Watch(settings)
    known: Loss | None = None
    while True:
        # The consumers report a store that is away.
        try:
            if idle.is_on and await asyncio.to_thread(watch.is_kept):
                loss = known
            else:
                loss = await asyncio.to_thread(watch.mark)
        except MaunticJobsError:
            loss = known
        if loss is not None and loss != known:
            log(f"{loss.sentence} Run `mauntic-jobs recover`.")
        known = loss
        await asyncio.sleep(_PAUSE_SECONDS)


class _Watch:
    """The marker, and the number that Redis was last seen to have."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen = 0

    def is_kept(self) -> bool:
        """Raise the marker in Redis; return whether Redis has kept what it had."""
        with closing(open_redis(self._settings)) as redis:
            number = mark_in_redis(redis, self._settings, clock.now(), seen=self._seen)
        self._seen = self._seen if number is None else number
        return number is not None

    def mark(self) -> Loss | None:
        """Raise the marker in both stores; return the loss that is open."""
        with connect(self._settings) as session, closing(open_redis(self._settings)) as redis:
            marker = raise_marker(session, redis, self._settings, clock.now(), seen=self._seen)
        self._seen = marker.number
        return marker.loss
