"""The numbers of delivering processes, as Prometheus reads them."""

from collections.abc import Iterator, Mapping
from typing import Any

from mauntic_jobs.delivery.stats import BUCKETS, ChannelStats


def exposition(stats: Mapping[str, ChannelStats]) -> bytes:
    """Return the numbers of all channels in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Numbers(Collector):
        def collect(self) -> Iterator[Any]:
            return _metrics(stats)

    registry = CollectorRegistry()
    registry.register(Numbers())
    text: bytes = generate_latest(registry)
    return text


def _metrics(stats: Mapping[str, ChannelStats]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    jobs = CounterMetricFamily(
        "mauntic_delivery_jobs", "Jobs settled, by what became of them.", labels=["channel", "outcome"]
    )
    queue = GaugeMetricFamily("mauntic_delivery_queue_jobs", "Jobs in the queue.", labels=["channel", "state"])
    active = GaugeMetricFamily("mauntic_delivery_active", "Jobs that these processes have in hand.", labels=["channel"])
    seconds = HistogramMetricFamily(
        "mauntic_delivery_seconds", "From a job's being taken to its being settled.", labels=["channel"]
    )
    for name, own in stats.items():
        for outcome, count in own.settled.items():
            jobs.add_metric([name, outcome], count)
        for state, count in own.queue.items():
            queue.add_metric([name, state], count)
        active.add_metric([name], own.active)
        buckets, below = [], 0
        for end, count in zip((*(str(end) for end in BUCKETS), "+Inf"), own.seconds, strict=True):
            below += count
            buckets.append((end, below))
        seconds.add_metric([name], buckets, own.total_seconds)
    yield from (jobs, queue, active, seconds)
