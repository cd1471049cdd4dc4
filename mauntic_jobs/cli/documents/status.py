"""JSON of the status of the whole installation."""

from uuid import UUID

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.alerts.alert import Severity
from mauntic_jobs.cli.documents.backfills import BackfillJson
from mauntic_jobs.cli.documents.deliveries import RestrictionJson
from mauntic_jobs.cli.documents.schedule import StandingJson
from mauntic_jobs.ops.queues import QueueKind


class StatusFindingJson(TypedDict):
    """Something to know about `subject`; `urgent`: an operator must act, with `command` where there is one."""

    subject: str
    text: str
    command: str | None
    urgent: bool


class JobStatusJson(StandingJson):
    """A scheduled job.

    `result` is the status of its latest run, or `partial`. `counters` are of its latest success, at `succeeded_at`;
    `seconds` are the durations of its latest successes, the oldest first.
    """

    result: str | None
    succeeded_at: AwareDatetime | None
    counters: dict[str, int]
    seconds: list[float]


class QueueJson(TypedDict):
    """A BullMQ queue: how many jobs are in each state.

    `completed` and those of the last minute count jobs that are still kept. `is_limited`: all that wait do so for rate
    limits or the end of a pause. `waiting_since` is when the one that waits longest became ready, `failed_since` when
    the oldest of the failed ones failed. `other_workers` counts connections of other programs' workers; null if the
    server hides them.
    """

    queue: str
    prefix: str
    kind: QueueKind
    waiting: int
    paused: int
    prioritized: int
    active: int
    delayed: int
    failed: int
    completed: int
    completed_last_minute: int
    failed_last_minute: int
    is_paused: bool
    is_limited: bool
    waiting_since: AwareDatetime | None
    failed_since: AwareDatetime | None
    other_workers: int | None


class OpenDeliveriesJson(TypedDict):
    """How many deliveries of a channel are in a state, up to 100,000 of each; docs/status.md lists the states.

    `next` is when the first of them may be sent.
    """

    channel: str
    state: str
    deliveries: int
    oldest: AwareDatetime
    next: AwareDatetime | None


class PausedProviderJson(TypedDict):
    """A provider that a circuit breaker leaves alone; `held` messages wait for one of its organization and channel."""

    organization_id: UUID
    provider_id: UUID
    channel: str
    provider: str
    reason: str
    tries: int
    since: AwareDatetime
    until: AwareDatetime
    held: int


class WarmupJson(TypedDict):
    """A sending domain near its limit: messages sent today, and how many it may send."""

    organization: UUID
    domain: str
    sent: int
    limit: int


class OpenAlertJson(TypedDict):
    """An alert that is not over; `problem` is why no channel took it. An earlier version may have had other causes."""

    id: int
    cause: str
    severity: Severity
    summary: str
    action: str
    opened_at: AwareDatetime
    problem: str | None


class LateEventsJson(TypedDict):
    """Late events of an organization: `late` of `events`, at most `hours` after the end of their day.

    `share` is from 0 to 1.
    """

    organization: UUID
    late: int
    events: int
    hours: int
    share: float


class StatusJson(TypedDict):
    """How everything stands at `at`. What could not be read is null, and `problems` says why, by store."""

    schema: int
    at: AwareDatetime
    problems: dict[str, str]
    findings: list[StatusFindingJson]
    jobs: list[JobStatusJson] | None
    queues: list[QueueJson] | None
    deliveries: list[OpenDeliveriesJson] | None
    paused_providers: list[PausedProviderJson] | None
    restrictions: list[RestrictionJson] | None
    warmup: list[WarmupJson] | None
    alerts: list[OpenAlertJson] | None
    outbox: int | None
    backfills: list[BackfillJson] | None
    late_events: list[LateEventsJson] | None
