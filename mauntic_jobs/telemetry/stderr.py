"""Lines on stderr, written by a thread of their own in processes that stay.

A reader that has stopped, or is gone, must not stop or end a process: lines that cannot be written are dropped.
"""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from threading import Event, Thread

from mauntic_jobs.redaction.printable import printable

MAX_WAITING_LINES = 2_000
_FLUSH_SECONDS = 2.0
_LOOK_SECONDS = 0.2


class LineWriter:
    """Writes lines to a descriptor in the background, in order. At most `most` lines wait; others are dropped."""

    def __init__(self, descriptor: int, most: int = MAX_WAITING_LINES) -> None:
        self._dropped = 0
        self._descriptor = descriptor
        self._lines: Queue[bytes] = Queue(most)
        self._ending = Event()
        self._thread = Thread(target=self._work, name="stderr", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Take a line over, or drop it. Returns at once, and raises nothing."""
        try:
            self._lines.put_nowait(f"{line}\n".encode(errors="backslashreplace"))
        except Full:
            self._dropped += 1

    def take_dropped(self) -> int:
        """Return how many lines were dropped since the last call, or 0 as long as a further line finds no place."""
        if not self._dropped or self._lines.full():
            return 0
        count, self._dropped = self._dropped, 0
        return count

    def close(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Write what waits, within so many seconds."""
        self._ending.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            try:
                line = self._lines.get(timeout=_LOOK_SECONDS)
            except Empty:
                if self._ending.is_set():
                    return
                continue
            with suppress(OSError):  # its reader is gone
                _write_all(self._descriptor, line)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


class _Current:
    writer: LineWriter | None = None
    has_written = False


@contextmanager
def in_background() -> Iterator[None]:
    """Let `write_line` return at once while the body runs. Where stderr is not a file, nothing changes."""
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        yield
        return
    _Current.writer = writer = LineWriter(descriptor)
    try:
        yield
    finally:
        _Current.writer = None
        writer.close()


def write_line(text: str) -> None:
    """Write a line on stderr, controls as escapes. Nothing is raised: there is no other place to report an error to."""
    text = printable(text)
    _Current.has_written = True
    writer = _Current.writer
    if writer is not None:
        writer.write(text)
    elif sys.stderr is not None:  # it is None where the descriptor was closed from the beginning
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def has_written() -> bool:
    """Return whether this process has written a line, or tried to."""
    return _Current.has_written


def take_dropped() -> int:
    """Return how many lines were dropped, once a line can be written again that names the number."""
    return _Current.writer.take_dropped() if _Current.writer is not None else 0


def flush(seconds: float) -> None:
    """Write what waits within so many seconds, before the process ends by force."""
    if _Current.writer is not None:
        _Current.writer.close(seconds)
