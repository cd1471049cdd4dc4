"""JSON of `status`."""

from dataclasses import asdict
from typing import Any

from mauntic_jobs.cli.backfill.output import backfill_json
from mauntic_jobs.cli.schedule.table import as_json as standing_as_json
from mauntic_jobs.ops.status.findings import findings
from mauntic_jobs.ops.status.queues import QueueStatus
from mauntic_jobs.ops.status.read import InstallationStatus, JobStatus
from mauntic_jobs.ops.warmup import WarmingDomain

# Raised when a field is removed or changes its meaning; fields may be added at any time.
_SCHEMA = 1


def as_json(status: InstallationStatus) -> dict[str, Any]:
    """Return everything; what could not be read is null."""
    return {
        "schema": _SCHEMA,
        "at": status.at,
        "problems": {store: str(error) for store, error in status.problems.items()},
        "findings": [asdict(each) for each in findings(status)],
        "jobs": None if status.jobs is None else [_job(each) for each in status.jobs],
        "queues": None if status.queues is None else [_queue(each) for each in status.queues],
        "deliveries": status.deliveries,
        "paused_providers": status.pauses,
        "restrictions": status.restrictions,
        "warmup": None if status.domains is None else [_domain(each) for each in status.domains],
        "alerts": status.alerts,
        "outbox": status.outbox,
        "backfills": None if status.backfills is None else [backfill_json(each) for each in status.backfills],
        "late_events": None if status.late is None else [{**asdict(each), "share": each.share} for each in status.late],
    }


def _job(job: JobStatus) -> dict[str, object]:
    return {
        **standing_as_json(job.standing),
        "result": job.result,
        "succeeded_at": job.succeeded_at,
        "counters": dict(job.counters),
        "seconds": [round(each, 3) for each in job.seconds],
    }


def _queue(status: QueueStatus) -> dict[str, object]:
    queue = {"queue": status.queue.name, "prefix": status.queue.prefix, "kind": status.queue.kind.value}
    return {**queue, **{name: value for name, value in vars(status).items() if name != "queue"}}


def _domain(domain: WarmingDomain) -> dict[str, object]:
    return {"organization": domain.organization, "domain": domain.name, "sent": domain.sent, "limit": domain.limit}
