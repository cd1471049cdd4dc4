"""Outcome of a notice."""

from typing import NamedTuple


class NoticeOutcome(NamedTuple):
    """Which channel took a notice, or why none did; neither, if no channel wants its severity."""

    channel: str | None
    problem: str | None
