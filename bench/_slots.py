"""Slots for measurements that run beside each other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """Lets measurements run beside each other as long as they have `most` processes in all, or one alone."""

    def __init__(self, most: int) -> None:
        self._most, self._used = most, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, processes: int, *, alone: bool = False) -> Iterator[None]:
        """Wait until so many more may run, and let them; nothing beside one that is to be `alone`."""
        processes = max(processes, self._most) if alone else processes
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + processes <= self._most)
            self._used += processes
        try:
            yield
        finally:
            with self._changed:
                self._used -= processes
                self._changed.notify_all()
