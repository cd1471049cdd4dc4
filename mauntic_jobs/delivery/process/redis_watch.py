"""Watch for a loss of Redis' data, beside the consumers of a process."""

import asyncio
from collections.abc import Callable
from contextlib import closing

from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.recovery.marker import Loss, mark
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock

_PAUSE_SECONDS = 60.0


async def watch_redis(settings: Settings, log: Callable[[str], None]) -> None:
    """Raise the marker once a minute, and say once that data was lost. Ends only by being cancelled."""
    known: Loss | None = None
    while True:
        # The consumers report a store that is away.
        try:
            loss = await asyncio.to_thread(_mark, settings)
        except MaunticJobsError:
            loss = known
        if loss is not None and loss != known:
            log(f"{loss.sentence} Run `mauntic-jobs recover`.")
        known = loss
        await asyncio.sleep(_PAUSE_SECONDS)


def _mark(settings: Settings) -> Loss | None:
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        return mark(session, redis, settings, clock.now())
