"""Event loop of a process that delivers."""

import asyncio
import sys


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of the kind that messages are delivered on: uvloop, where there is one."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
