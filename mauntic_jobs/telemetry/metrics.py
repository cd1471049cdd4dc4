"""Numbers as Prometheus reads them: those of scheduled jobs, and any families as text.

The label of a job is `job_name`: `job` is what Prometheus itself calls the target that it read.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from mauntic_jobs import __version__

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily, Metric

RESULTS = ("succeeded", "partial", "failed", "stopped", "lost", "running")


@dataclass(frozen=True)
class JobNumbers:
    """What there is to tell of one job. `result`, `started_at` and `seconds` are of its latest run.

    `rows` is what its latest success counted. `next_slot` is the oldest slot that waits to be run, or the next to come:
    one long in the past was left out.
    """

    name: str
    next_slot: datetime
    result: str | None = None
    started_at: datetime | None = None
    seconds: float | None = None
    succeeded_at: datetime | None = None
    rows: Mapping[str, int] = field(default_factory=dict)


def gauge(name: str, meaning: str, *labels: str) -> "GaugeMetricFamily":
    """Return an empty family of gauges; `add_metric` adds to it."""
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, meaning, labels=labels)


def job_families(jobs: Iterable[JobNumbers]) -> Iterator["Metric"]:
    """Return the families of all jobs."""
    started = gauge("mauntic_job_last_run_timestamp_seconds", "When the latest run of a job began.", "job_name")
    seconds = gauge("mauntic_job_last_run_duration_seconds", "How long the latest run took.", "job_name")
    result = gauge("mauntic_job_last_run_result", "1 for how the latest run went, else 0.", "job_name", "result")
    success = gauge("mauntic_job_last_success_timestamp_seconds", "When a run last succeeded.", "job_name")
    rows = gauge("mauntic_job_last_success_rows", "What the latest success counted.", "job_name", "counter")
    slot = gauge("mauntic_job_next_slot_timestamp_seconds", "The oldest slot that waits, or the next.", "job_name")
    for job in jobs:
        for family, instant in ((slot, job.next_slot), (started, job.started_at), (success, job.succeeded_at)):
            if instant is not None:
                family.add_metric([job.name], instant.timestamp())
        if job.seconds is not None:
            seconds.add_metric([job.name], job.seconds)
        for name in RESULTS if job.result else ():
            result.add_metric([job.name, name], job.result == name)
        for name, count in job.rows.items():
            rows.add_metric([job.name, name], count)
    yield from (started, seconds, result, success, rows, slot)


def build_family() -> "Metric":
    """Return the family that says which version speaks."""
    family = gauge("mauntic_build_info", "The version of mauntic-jobs; always 1.", "version")
    family.add_metric([__version__], 1)
    return family


def exposition(families: Iterable["Metric"]) -> bytes:
    """Return families in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    collected = list(families)

    class Numbers(Collector):
        def collect(self) -> Iterable["Metric"]:
            return collected

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Numbers())
    text: bytes = generate_latest(registry)
    return text


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the numbers of an exposition by name and labels. Raises ValueError for what is none."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
