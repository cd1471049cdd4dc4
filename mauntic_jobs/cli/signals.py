"""SIGINT and SIGTERM: the first asks for a clean stop, a second one ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mauntic_jobs.errors import Interrupted

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise Interrupted in the body on the first signal."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _STOPPING:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    before = {each: signal.signal(each, stop) for each in _STOPPING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
