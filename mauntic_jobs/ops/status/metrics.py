"""State of an installation in Prometheus' format: from the ledgers and the queues, whichever process answers."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from mauntic_jobs.ops.status.read import InstallationStatus, JobStatus
from mauntic_jobs.telemetry.metrics import JobNumbers, build_family, gauge, job_families

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_FULL_LABELS = ("organization", "channel", "provider")
_STATES = ("waiting", "paused", "prioritized", "active", "delayed", "failed")


def families(status: InstallationStatus, parts: Collection[str]) -> Iterator["Metric"]:
    """Return the families of these `PARTS`, with what could be read; and which stores could be."""
    yield build_family()
    up = gauge("mauntic_store_up", "Whether Postgres or Redis could be read.", "store")
    for store, read in (("postgres", status.jobs), ("redis", status.queues)):
        if read is not None or store in status.problems:
            up.add_metric([store], store not in status.problems)
    yield up
    for part in parts:
        yield from PARTS[part](status)


def _jobs(status: InstallationStatus) -> Iterator["Metric"]:
    jobs = status.jobs or []
    yield from job_families(_numbers(job) for job in jobs)
    missed = gauge("mauntic_job_missed_slots", "Slots of the last 30 days that no clock ran.", "job_name")
    clocks = gauge("mauntic_job_clocks", "Launchers that claimed a slot within a day.", "job_name")
    for job in jobs:
        missed.add_metric([job.standing.job.name], job.standing.missed)
        clocks.add_metric([job.standing.job.name], len(job.standing.clocks))
    yield from (missed, clocks, _backfills(status))


def _backfills(status: InstallationStatus) -> "Metric":
    left = gauge("mauntic_backfill_windows_left", "Windows that open backfills have still to run.", "job_name", "state")
    sums: dict[tuple[str, str], int] = {}
    for each in status.backfills or []:
        key = each.job, "abandoned" if each.abandoned else each.state.value
        sums[key] = sums.get(key, 0) + each.left
    for key, number in sums.items():
        left.add_metric(list(key), number)
    return left


def _numbers(job: JobStatus) -> JobNumbers:
    standing, last = job.standing, job.standing.last
    return JobNumbers(
        name=standing.job.name,
        next_slot=next(iter(standing.due), standing.next),
        result=job.result,
        started_at=last["started_at"] if last else None,
        seconds=last["seconds"] if last else None,
        succeeded_at=job.succeeded_at,
        rows=job.counters,
    )


def _queues(status: InstallationStatus) -> Iterator["Metric"]:
    jobs = gauge("mauntic_queue_jobs", "Jobs on a queue, by their state.", "queue", "state")
    paused = gauge("mauntic_queue_paused", "Whether a queue is paused.", "queue")
    limited = gauge("mauntic_queue_limited", "Whether all that wait do so for limits or pauses.", "queue")
    waiting = gauge("mauntic_queue_waiting_since_timestamp_seconds", "When the next job became ready.", "queue")
    failed = gauge("mauntic_queue_oldest_failed_timestamp_seconds", "When the oldest dead letter failed.", "queue")
    for each in status.queues or []:
        name = each.queue.name
        for state in _STATES:
            jobs.add_metric([name, state], getattr(each, state))
        paused.add_metric([name], each.is_paused)
        limited.add_metric([name], each.is_limited)
        for family, instant in ((waiting, each.waiting_since), (failed, each.failed_since)):
            if instant is not None:
                family.add_metric([name], instant.timestamp())
    yield from (jobs, paused, limited, waiting, failed)


def _deliveries(status: InstallationStatus) -> Iterator["Metric"]:
    known = gauge("mauntic_deliveries", "Open deliveries, and those that failed within a day.", "channel", "state")
    oldest = gauge("mauntic_deliveries_oldest_timestamp_seconds", "When one changed last.", "channel", "state")
    for row in status.deliveries or []:
        known.add_metric([row["channel"], row["state"]], row["deliveries"])
        oldest.add_metric([row["channel"], row["state"]], row["oldest"].timestamp())
    restrictions = gauge("mauntic_restrictions", "Pauses and rates that operators or the monitor have set.", "kind")
    if status.restrictions is not None:
        pauses = sum(row["rate"] == 0 for row in status.restrictions)
        restrictions.add_metric(["pause"], pauses)
        restrictions.add_metric(["rate"], len(status.restrictions) - pauses)
    full = gauge("mauntic_provider_full_until_timestamp_seconds", "When its day has room again.", *_FULL_LABELS)
    for limit in status.full or []:
        if limit.full_until is not None:
            labels = [str(limit.organization), limit.channel, str(limit.provider)]
            full.add_metric(labels, limit.full_until.timestamp())
    yield from (known, oldest, restrictions, full)


def _warmup(status: InstallationStatus) -> Iterator["Metric"]:
    domains = gauge("mauntic_warmup_domains_near_limit", "Domains that have sent four fifths of their day's limit.")
    if status.domains is not None:
        domains.add_metric([], len(status.domains))
    yield domains


def _alerts(status: InstallationStatus) -> Iterator["Metric"]:
    alerts = gauge("mauntic_alerts_open", "Open alerts.", "severity")
    counts: dict[str, int] = {}
    for alert in status.alerts or []:
        counts[alert["severity"]] = counts.get(alert["severity"], 0) + 1
    for severity, count in counts.items():
        alerts.add_metric([severity], count)
    untold = gauge("mauntic_alerts_undelivered", "Open alerts that no channel took.")
    if status.alerts is not None:
        untold.add_metric([], sum(alert["problem"] is not None for alert in status.alerts))
    yield from (alerts, untold)


PARTS: dict[str, Callable[[InstallationStatus], Iterable["Metric"]]] = {
    "jobs": _jobs,
    "queues": _queues,
    "deliveries": _deliveries,
    "warmup": _warmup,
    "alerts": _alerts,
}
