"""Supervisor of background tasks: one that fails is reported at once and started again."""

import asyncio
from collections.abc import Awaitable, Callable

_MIN_SECONDS, _MAX_SECONDS = 1.0, 60.0


async def keep_running(name: str, work: Callable[[], Awaitable[None]], say: Callable[[str], None]) -> None:
    """Run `work` until it returns or this task is cancelled. After an error, report it and start `work` again.

    The pauses between starts double from 1 s to 60 s as long as `work` fails within a minute.
    """
    loop, seconds = asyncio.get_running_loop(), _MIN_SECONDS
    while True:
        began = loop.time()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is, what this task keeps up must go on
            if loop.time() - began > _MAX_SECONDS:
                seconds = _MIN_SECONDS
            say(f"{name} failed: {type(error).__name__}: {error}. It is started again in {seconds:.0f} s.")
            await asyncio.sleep(seconds)
            seconds = min(seconds * 2, _MAX_SECONDS)
        else:
            return
