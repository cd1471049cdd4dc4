"""SIGINT and SIGTERM: the first asks for a clean stop, a second one ends the process at once."""

import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from types import FrameType
from typing import Any, Self

from mauntic_jobs.errors import Interrupted

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_AGAIN_SECONDS = 0.02


def stays(arguments: Sequence[str]) -> bool:
    """Return whether a command line is that of a command that stays until a signal, and then ends with exit code 0.

    It does so also before it takes signals itself, by a handler that ends the process: nothing is in hand then.
    """
    first = list(arguments[:2])
    watches = first == ["monitor", "run"] and "--once" not in arguments
    return first[:1] in (["deliver"], ["work"]) or watches or "--loop" in arguments


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise Interrupted in the body on the first signal.

    Python drops an exception that a handler raises while a destructor runs: the signal is then sent again. It wraps one
    that is raised in `__set_name__`, while a class is made: it is taken out.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _STOPPING:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        if not isinstance(dropped.exc_value, Interrupted):
            drop(dropped)
            return
        for each in _STOPPING:
            signal.signal(each, stop)
        # Not at once: it would be dropped here, too.
        Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), dropped.exc_value.number)).start()

    drop, sys.unraisablehook = sys.unraisablehook, send_again
    before = {each: signal.signal(each, stop) for each in _STOPPING}
    try:
        yield
    except Exception as error:
        if isinstance(error.__cause__, Interrupted):
            raise error.__cause__ from None
        raise
    finally:
        sys.unraisablehook = drop
        for each, handler in before.items():
            signal.signal(each, handler)


class SignalEvent:
    """An event that a signal handler may set.

    A `threading.Event` has a lock: a handler that interrupts its thread within `wait` would wait for that lock for
    ever, and a second signal with it.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._reader, self._writer = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)

    def set(self) -> None:
        """Wake up what waits, now and from now on."""
        if not self._is_set:
            self._is_set = True
            os.write(self._writer, b"!")

    def is_set(self) -> bool:
        """Return whether it has been set."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most so many seconds; return whether it has been."""
        self._poll.poll(seconds * 1000)
        return self._is_set

    def close(self) -> None:
        """Let its descriptors go; it can only be asked from now on."""
        os.close(self._reader)
        os.close(self._writer)


class Signals:
    """Notes signals while its body runs: `first` is set by the first, `second` by the next."""

    def __init__(self) -> None:
        self.first, self.second = SignalEvent(), SignalEvent()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        def note(_number: int, _frame: FrameType | None) -> None:
            (self.second if self.first.is_set() else self.first).set()

        self._before = {number: signal.signal(number, note) for number in _STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.first.close()
        self.second.close()
