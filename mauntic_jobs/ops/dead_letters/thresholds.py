"""Thresholds of dead letters, queue by queue: too many, too many new ones, or too old."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mauntic_jobs.settings.types import DeadLetterLimits
from mauntic_jobs.timekeeping.window import format_duration
from mauntic_jobs.wording import plural


class Measure(StrEnum):
    """What of a queue is over its threshold."""

    DEPTH = "depth"
    GROWTH = "growth"
    AGE = "age"


@dataclass(frozen=True)
class QueueStanding:
    """How many dead letters a queue has, how many of them are recent, and when the oldest of them failed.

    `recipients` are further letters, which failed because of their recipients; None where that was not looked at.
    """

    queue: str
    depth: int
    growth: int
    oldest: datetime | None
    recipients: int | None = None


@dataclass(frozen=True)
class Breach:
    """A queue that is over a threshold, and a sentence that says by how much."""

    queue: str
    measure: Measure
    sentence: str


def evaluate(standings: Iterable[QueueStanding], limits: DeadLetterLimits, now: datetime) -> list[Breach]:
    """Return what is over its threshold; what just reaches it is not."""
    return [finding for standing in standings for finding in _findings(standing, limits, now)]


def _findings(standing: QueueStanding, limits: DeadLetterLimits, now: datetime) -> list[Breach]:
    found = []
    if standing.depth > limits.depth:
        letters = plural(standing.depth, "dead letter")
        sentence = f"{letters} (limit {limits.depth:,})"
        found.append(Breach(standing.queue, Measure.DEPTH, sentence))
    if standing.growth > limits.growth:
        window = format_duration(limits.window)
        sentence = f"{standing.growth:,} new within {window} (limit {limits.growth:,})"
        found.append(Breach(standing.queue, Measure.GROWTH, sentence))
    if standing.oldest is not None and now - standing.oldest > limits.age:
        sentence = f"the oldest failed on {standing.oldest:%Y-%m-%d %H:%M} UTC, over {format_duration(limits.age)} ago"
        found.append(Breach(standing.queue, Measure.AGE, sentence))
    return found
