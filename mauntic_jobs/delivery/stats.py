"""Counters of a delivering process, which add up over processes."""

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field, replace

from mauntic_jobs.delivery.sending.outcome import Outcome

# What has become of a job that is tried again.
_GOES_ON = ("retried", "deferred", "given back")
# Seconds from a job's being taken to its being settled.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass
class ExchangeCounts:
    """Exchanges with providers of one type: how many ended how, and how long they took, by BUCKETS and beyond.

    `refusals` are those that were refused, by what they blame.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    seconds: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total_seconds: float = 0.0

    def __add__(self, other: "ExchangeCounts") -> "ExchangeCounts":
        return ExchangeCounts(
            self.outcomes + other.outcomes,
            self.refusals + other.refusals,
            [a + b for a, b in zip(self.seconds, other.seconds, strict=True)],
            self.total_seconds + other.total_seconds,
        )


@dataclass
class ChannelStats:
    """Numbers of one channel. `settled` counts jobs by what became of them; `seconds` has one place more than BUCKETS.

    `exchanges` are by channel and type of provider, because a message may be on the queue of another channel. `queue`
    are the lengths of the queue's lists, the same for all processes; `moved` is when something was last done, by the
    monotonic clock of this machine.
    """

    settled: Counter[str] = field(default_factory=Counter)
    seconds: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total_seconds: float = 0.0
    active: int = 0
    queue: dict[str, int] = field(default_factory=dict)
    moved: float = field(default_factory=time.monotonic)
    trouble: str | None = None
    exchanges: dict[tuple[str, str], ExchangeCounts] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many jobs were settled for good."""
        return self.settled.total() - sum(self.settled[what] for what in _GOES_ON)

    def settle(self, what: str, seconds: float) -> None:
        """Count one job."""
        self.settled[what] += 1
        self.seconds[bisect_left(BUCKETS, seconds)] += 1
        self.total_seconds += seconds
        self.moved = time.monotonic()

    def exchange(self, channel: str, provider: str, outcome: Outcome, seconds: float) -> None:
        """Count one exchange with a provider."""
        own = self.exchanges.get((channel, provider))
        if own is None:
            own = self.exchanges[channel, provider] = ExchangeCounts()
        own.outcomes[outcome.verdict] += 1
        if outcome.blame:
            own.refusals[outcome.blame] += 1
        own.seconds[bisect_left(BUCKETS, seconds)] += 1
        own.total_seconds += seconds

    def quantile(self, share: float) -> float:
        """Return the upper end of the bucket that this share of the jobs stayed below, in seconds; 0 if there are none.

        The last bucket has no end: it counts as its beginning.
        """
        left = share * sum(self.seconds)
        for count, end in zip(self.seconds, (*BUCKETS, BUCKETS[-1]), strict=True):
            left -= count
            if left <= 0:
                return end if count else 0.0
        return 0.0

    def without_present(self) -> "ChannelStats":
        """Return what remains of the numbers when the process has ended."""
        return replace(self, active=0, queue={}, trouble=None)


def summary(stats: ChannelStats) -> dict[str, object]:
    """Return the numbers as a person reads them."""
    settled = {name.replace(" ", "_"): count for name, count in sorted(stats.settled.items())}
    milliseconds = {f"p{share:g}_ms": round(stats.quantile(share / 100) * 1000) for share in (50, 99)}
    return {**settled, **milliseconds, "in_hand": stats.active, "queue": stats.queue}


def merged(several: list[dict[str, ChannelStats]]) -> dict[str, ChannelStats]:
    """Return the numbers of several processes as those of one."""
    result: dict[str, ChannelStats] = {}
    for stats in several:
        for name, own in stats.items():
            known = result.get(name)
            result[name] = own if known is None else _sum(known, own)
    return result


def _sum(one: ChannelStats, other: ChannelStats) -> ChannelStats:
    return ChannelStats(
        settled=one.settled + other.settled,
        seconds=[a + b for a, b in zip(one.seconds, other.seconds, strict=True)],
        total_seconds=one.total_seconds + other.total_seconds,
        active=one.active + other.active,
        queue=other.queue or one.queue,
        moved=max(one.moved, other.moved),
        trouble=one.trouble or other.trouble,
        exchanges=exchanges(one, other),
    )


def exchanges(*several: ChannelStats) -> dict[tuple[str, str], ExchangeCounts]:
    """Return the exchanges of several channels together."""
    result: dict[tuple[str, str], ExchangeCounts] = {}
    for stats in several:
        for key, own in stats.exchanges.items():
            result[key] = result.get(key, ExchangeCounts()) + own
    return result
