"""Metrics of delivering processes, for Prometheus."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mauntic_jobs.delivery.stats import BUCKETS, ChannelStats, exchanges
from mauntic_jobs.telemetry.metrics import gauge


def delivery_families(stats: Mapping[str, ChannelStats]) -> Iterator[Any]:
    """Return the families of all channels."""
    yield from _channels(stats)
    yield from _providers(stats)


def _channels(stats: Mapping[str, ChannelStats]) -> Iterator[object]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    jobs = CounterMetricFamily(
        "mauntic_delivery_jobs", "Jobs settled, by what became of them.", labels=["channel", "outcome"]
    )
    queue = gauge("mauntic_delivery_queue_jobs", "Jobs in the queue.", "channel", "state")
    active = gauge("mauntic_delivery_active", "Jobs that these processes have in hand.", "channel")
    seconds = HistogramMetricFamily(
        "mauntic_delivery_seconds", "From a job's being taken to its being settled.", labels=["channel"]
    )
    for name, own in stats.items():
        for outcome, count in own.settled.items():
            jobs.add_metric([name, outcome], count)
        for state, count in own.queue.items():
            queue.add_metric([name, state], count)
        active.add_metric([name], own.active)
        seconds.add_metric([name], _buckets(own.seconds), own.total_seconds)
    yield from (jobs, queue, active, seconds)


def _providers(stats: Mapping[str, ChannelStats]) -> Iterator[object]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    ended = CounterMetricFamily(
        "mauntic_provider_exchanges",
        "Exchanges with providers, by what came of them.",
        labels=["channel", "provider", "outcome"],
    )
    refused = CounterMetricFamily(
        "mauntic_provider_refusals",
        "Messages that providers refused, by what they blame.",
        labels=["channel", "provider", "blame"],
    )
    seconds = HistogramMetricFamily(
        "mauntic_provider_seconds", "How long exchanges with providers took.", labels=["channel", "provider"]
    )
    for (channel, provider), own in exchanges(*stats.values()).items():
        for outcome, count in own.outcomes.items():
            ended.add_metric([channel, provider, outcome], count)
        for blame, count in own.refusals.items():
            refused.add_metric([channel, provider, blame], count)
        seconds.add_metric([channel, provider], _buckets(own.seconds), own.total_seconds)
    yield from (ended, refused, seconds)


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return counts by bucket as Prometheus has them: each with all that is shorter."""
    buckets, below = [], 0
    for end, count in zip((*(str(end) for end in BUCKETS), "+Inf"), counts, strict=True):
        below += count
        buckets.append((end, float(below)))
    return buckets
