"""SIGINT and SIGTERM: the first asks for a clean stop, a second one ends the process at once."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import Any, Self

from mauntic_jobs.errors import Interrupted

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def stays(arguments: Sequence[str]) -> bool:
    """Return whether a command line is that of a command that stays until a signal, and then ends with exit code 0.

    It does so also before it takes signals itself: nothing is in hand then.
    """
    first = list(arguments[:2])
    watches = first == ["monitor", "run"] and "--once" not in arguments
    return first[:1] in (["deliver"], ["work"]) or watches or "--loop" in arguments


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


class Signals:
    """Notes signals while its body runs: `first` is set by the first, `second` by the next."""

    def __init__(self) -> None:
        self.first, self.second = Event(), Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        def note(_number: int, _frame: FrameType | None) -> None:
            (self.second if self.first.is_set() else self.first).set()

        self._before = {number: signal.signal(number, note) for number in _STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
