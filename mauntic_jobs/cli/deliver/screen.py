"""The live screen of `deliver`."""

import asyncio
import os
import sys
import time
from collections.abc import Iterable
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from mauntic_jobs.cli.framework.output import Escaped
from mauntic_jobs.delivery.stats import ChannelStats

if TYPE_CHECKING:
    from rich.console import RenderableType

_REFRESH_SECONDS = 0.5
_RATE_SECONDS = 5.0
_END_SECONDS = 2.0
_COLUMNS = ("channel", "waiting", "active", "delayed", "sent", "sent/s", "failed", "p50", "p99")


class Source(Protocol):
    """Where the numbers come from."""

    @property
    def stats(self) -> dict[str, ChannelStats]:
        """The numbers by channel."""
        ...

    @property
    def trouble(self) -> str | None:
        """What is in the way."""
        ...


async def show_screen(source: Source, recent: Iterable[str]) -> None:
    """Show the numbers until cancelled, and below them what was said last."""
    history: list[tuple[float, dict[str, int]]] = []
    painter = _Painter()
    try:
        while True:
            history.append((time.monotonic(), {name: own.settled["sent"] for name, own in source.stats.items()}))
            while len(history) > 2 and history[0][0] < history[-1][0] - _RATE_SECONDS:  # noqa: PLR2004 - two for a rate
                history.pop(0)
            painter.show(Escaped(_screen(source, _rates(history), recent)))
            await asyncio.sleep(_REFRESH_SECONDS)
    finally:
        painter.end(Escaped(_screen(source, _rates(history), recent)))


class _Painter:
    """A thread that writes to the terminal: one that was stopped, as by Ctrl-S, must not stop the deliveries."""

    def __init__(self) -> None:
        self._frames: Queue[RenderableType | None] = Queue()
        self._thread = Thread(target=self._work, name="screen", daemon=True)
        self._thread.start()

    def show(self, frame: "RenderableType") -> None:
        """Show a frame, unless the terminal has not taken the one before."""
        if self._frames.empty():
            self._frames.put(frame)

    def end(self, frame: "RenderableType") -> None:
        """Show the last frame, and give the terminal back."""
        self._frames.put(frame)
        self._frames.put(None)
        self._thread.join(_END_SECONDS)

    def _work(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # A file of its own: Python flushes `sys.stderr` as it ends, and must not wait for a terminal that was stopped.
        with (
            os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding) as terminal,
            Live(console=Console(file=terminal), auto_refresh=False, transient=False) as live,
        ):
            while (frame := self._frames.get()) is not None:
                live.update(frame, refresh=True)


def _rates(history: list[tuple[float, dict[str, int]]]) -> dict[str, float]:
    (began, before), (now, after) = history[0], history[-1]
    return {name: (count - before.get(name, 0)) / max(now - began, 0.1) for name, count in after.items()}


def _screen(source: Source, rates: dict[str, float], recent: Iterable[str]) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "channel" else "right", no_wrap=True)
    for name, own in source.stats.items():
        waiting = own.queue.get("waiting", 0) + own.queue.get("prioritized", 0)
        failed = Text(f"{own.settled['failed']:,}", style="red" if own.settled["failed"] else "")
        table.add_row(
            name,
            f"{waiting:,}",
            f"{own.active:,}",
            f"{own.queue.get('delayed', 0):,}",
            f"{own.settled['sent']:,}",
            f"{rates.get(name, 0.0):,.0f}",
            failed,
            _milliseconds(own.quantile(0.5)),
            _milliseconds(own.quantile(0.99)),
        )
    lines = [Text(source.trouble, style="bold red")] if source.trouble else []
    lines += [
        Text(f"{name}: the queue is paused, with {own.queue['paused']:,} jobs", style="bold red")
        for name, own in source.stats.items()
        if own.queue.get("paused")
    ]
    return Group(table, *lines, *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in recent))


def _milliseconds(seconds: float) -> str:
    return f"<{seconds * 1000:,.0f} ms" if seconds else "-"
