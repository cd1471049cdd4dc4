"""State of an installation: jobs, queues, deliveries, warm-up and alerts, read in a handful of calls to each store."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mauntic_jobs.backfill.store import Backfill, list_backfills
from mauntic_jobs.delivery.ledger.waits import PATTERNS, Wait
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.delivery.render.recipient_guard import guard_of
from mauntic_jobs.delivery.sending.outcome import SUPPRESSING
from mauntic_jobs.delivery.sending.pauses import KNOWN_AFTER_PAUSE
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.ops.providers.limits import ProviderLimit, full_providers, waiting_for
from mauntic_jobs.ops.queues import platform_queues
from mauntic_jobs.ops.restrictions import list_restrictions
from mauntic_jobs.ops.status.queues import QueueStatus, read_queues
from mauntic_jobs.ops.warmup import WarmingDomain, warming_domains
from mauntic_jobs.recovery.marker import Loss, look, read_marker
from mauntic_jobs.runner.outbox import count_unpublished
from mauntic_jobs.scheduler.overview import Standing, read_overview
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session, connect
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis

# Deliveries of a state are counted up to here, alerts and domains looked at up to there.
MAX_DELIVERIES = 100_000
_MAX_ALERTS, _MAX_LATE, _MAX_PAUSES, _MAX_BACKFILLS, _MAX_FULL = 100, 100, 1000, 100, 100
_RUNS_OF_HISTORY = 20
_NEAR_LIMIT = 0.8
FAILED_WITHIN = timedelta(days=1)
# States of deferred deliveries that wait as they are meant to.
_WAITING = {Wait.WARM_UP: "warming_up", Wait.QUIET_HOURS: "quiet_hours", Wait.RECEIVER: "asked_to_wait"}
_LIMITS = Limits("mauntic-jobs status", timedelta(seconds=10))

_sql = statements("status")
_late_sql = statements("late_events")


@dataclass(frozen=True)
class JobStatus:
    """How a scheduled job stands.

    `succeeded_at`, `counters` and `problems` are of its latest success; `seconds` is how long the latest successes
    took, the oldest of them first.
    """

    standing: Standing
    succeeded_at: datetime | None
    counters: Mapping[str, int]
    problems: str | None
    seconds: Sequence[float]

    @property
    def result(self) -> str | None:
        """How the latest run went: its status in the ledger, or `partial` where it left something undone."""
        last = self.standing.last
        if last is None:
            return None
        return "partial" if last["status"] == "succeeded" and last["error"] else str(last["status"])


@dataclass(frozen=True)
class LateEvents:
    """How many events of an organization came late, of those recorded on the days that late events are looked for on.

    `hours` is how long after the end of their day they came at most.
    """

    organization: str
    late: int
    events: int
    hours: int

    @property
    def share(self) -> float:
        """The share of late events, from 0 to 1."""
        return self.late / max(self.events, self.late)


@dataclass
class InstallationStatus:
    """How everything stands at `at`. What could not be read is None, and `problems` say why, by store.

    `deliveries` are rows of `channel`, `state`, `deliveries`, `oldest` and `next`; `domains` are those near their
    limit; `alerts` are the open ones; `late` are the organizations with late events, the largest share first. `loss` is
    a loss of Redis' data that was not recovered from. `pauses` are the providers that circuit breakers leave alone,
    with the messages `held`; `full` are those whose limit of a day is reached. `restrictions` are the pauses and rates
    that operators or the monitor have set. `guard` says who alone gets messages. `outbox` counts jobs that are not on
    their queue yet, up to 100,000. `backfills` are those that are not over. `reading` is the store that was asked last.
    """

    at: datetime
    jobs: list[JobStatus] | None = None
    queues: list[QueueStatus] | None = None
    deliveries: list[Row] | None = None
    domains: list[WarmingDomain] | None = None
    alerts: list[Row] | None = None
    loss: Loss | None = None
    pauses: list[Row] | None = None
    full: list[ProviderLimit] | None = None
    restrictions: list[Row] | None = None
    late: list[LateEvents] | None = None
    outbox: int | None = None
    backfills: list[Backfill] | None = None
    problems: dict[str, MaunticJobsError] = field(default_factory=dict)
    guard: str | None = None
    reading: str = "postgres"


def read_status(settings: Settings, jobs: Sequence[AnyJob], now: datetime) -> InstallationStatus:
    """Read how everything stands at `now`, aware, in UTC. Writes nothing.

    A store that cannot be read is a problem of the result, and leaves the other's half. Without a Redis in the settings
    there are no queues, and that is no problem. Raises ConfigurationError if there is no database in them.
    """
    status = InstallationStatus(now)
    fill_status(status, settings, jobs)
    return status


def fill_status(status: InstallationStatus, settings: Settings, jobs: Sequence[AnyJob]) -> None:
    """Read into `status` how everything stands at its time, part by part, as `read_status` does."""
    now, marker = status.at, None
    status.guard = guard_of(settings).sentence
    try:
        with connect(settings) as session, session.transaction(_LIMITS):
            status.jobs = _jobs(session, jobs, settings, now)
            parameters = {"most": MAX_DELIVERIES, "since": now - FAILED_WITHIN, "recipients": list(SUPPRESSING)}
            parameters |= {"waits": PATTERNS, "wait_names": [_WAITING[wait] for wait in Wait]}
            status.deliveries = session.rows(_sql["deliveries"], parameters)
            status.pauses = _pauses(session, now)
            status.restrictions = list_restrictions(session, now)
            status.domains = [each for each in warming_domains(session, now) if each.sent >= _NEAR_LIMIT * each.limit]
            status.alerts = session.rows(_sql["alerts"], {"most": _MAX_ALERTS})
            marker = read_marker(session, settings)
            status.loss = marker.loss if marker else None
            status.late = _late(session, settings, now)
            status.outbox = count_unpublished(session)
            status.backfills = list_backfills(session, only_open=True, limit=_MAX_BACKFILLS)
    except MaunticJobsError as error:
        status.problems["postgres"] = error
    if settings.redis_url is None:
        return
    status.reading = "redis"
    try:
        with closing(open_redis(settings)) as redis:
            status.loss = look(marker, redis, settings, now)
            status.queues = read_queues(redis, platform_queues(settings, jobs), now)
            status.pauses = _with_waiting(status.pauses or (), redis, settings)
            status.full = full_providers(redis, settings, now, _MAX_FULL)
    except MaunticJobsError as error:
        status.problems["redis"] = error


def _pauses(session: Session, now: datetime) -> list[Row]:
    asked = {"now": now, "ended": now - KNOWN_AFTER_PAUSE, "most": MAX_DELIVERIES, "most_pauses": _MAX_PAUSES}
    asked |= {"waits": PATTERNS}
    return session.rows(_sql["pauses"], asked)


def _with_waiting(pauses: Sequence[Row], redis: RedisScripts, settings: Settings) -> list[Row]:
    """Return the paused providers, the messages `held` with those that wait on the queue for one of them."""
    providers = [(base_of(settings, row["channel"]), row["organization_id"], row["provider_id"]) for row in pauses]
    waiting = waiting_for(redis, providers)
    return [{**row, "held": row["held"] + count} for row, count in zip(pauses, waiting, strict=True)]


def _jobs(session: Session, jobs: Sequence[AnyJob], settings: Settings, now: datetime) -> list[JobStatus]:
    standings = read_overview(Installation(settings, now, jobs, session=session))
    wanted = {"jobs": [job.name for job in jobs], "most": _RUNS_OF_HISTORY}
    histories = {row["job"]: row for row in session.rows(_sql["history"], wanted)}
    return [_job(standing, histories[standing.job.name]) for standing in standings]


def _job(standing: Standing, history: Row) -> JobStatus:
    return JobStatus(
        standing, history["finished_at"], history["counters"] or {}, history["problems"], history["seconds"]
    )


def _late(session: Session, settings: Settings, now: datetime) -> list[LateEvents]:
    after = now.date() - timedelta(days=1)
    asked = {"first": after - settings.late_events_window, "after": after, "most": _MAX_LATE}
    rows = session.rows(_late_sql["share"], asked)
    late = [LateEvents(str(row["organization_id"]), row["events"], row["recorded"], row["hours"]) for row in rows]
    return sorted(late, key=lambda each: -each.share)
