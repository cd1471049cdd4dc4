"""Findings of `status`: faults, remarks, and the command for each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from mauntic_jobs.backfill.store import Backfill, BackfillState
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.dead_letters.error_fingerprint import normalised
from mauntic_jobs.ops.providers.limits import ProviderLimit
from mauntic_jobs.ops.queues import QueueKind
from mauntic_jobs.ops.restrictions import effect_of, end_words, scope_of
from mauntic_jobs.ops.status.queues import QueueStatus
from mauntic_jobs.ops.status.read import InstallationStatus, JobStatus, LateEvents
from mauntic_jobs.redaction.payloads import mask_text
from mauntic_jobs.runner.outbox import MAX_COUNTED
from mauntic_jobs.scheduler.overview import MISSED_WITHIN
from mauntic_jobs.wording import plural

# Jobs that have waited for longer, with none in hand, have no consumer.
_UNTAKEN = timedelta(minutes=2)
# A run that takes so many times its usual time, and more than a minute, is worth a look.
_SLOW = 3.0
_MIN_SLOW_SECONDS = 60.0
_MIN_RUNS = 3
_RESTRICTIONS_SHOWN, _FULL_SHOWN = 5, 5
# A larger share of late events is more than the odd slow writer.
_MANY_LATE = 0.01


@dataclass(frozen=True)
class StatusFinding:
    """Something to know. `subject` is the job, queue or part that it is about; `urgent`: an operator must act.

    `command` shows more, or puts it right; None where no command of ours does.
    """

    subject: str
    text: str
    command: str | None
    urgent: bool = False


def findings(status: InstallationStatus) -> list[StatusFinding]:
    """Return what there is to know, what is urgent first; what several jobs or queues share is one finding."""
    jobs, queues = status.jobs or [], status.queues or []
    found = [_of_problem(store, error) for store, error in status.problems.items()]
    if status.loss is not None:
        found.append(StatusFinding("redis", status.loss.sentence, "mauntic-jobs recover", urgent=True))
    if status.guard is not None:
        found.append(StatusFinding("deliver", status.guard, "mauntic-jobs config show"))
    found += [_of_alert(alert) for alert in status.alerts or []]
    found += _overdue(jobs, status.at)
    for job in jobs:
        found += _of_run(job, status.at)
    found += _paused_jobs(jobs)
    found += _of_backfills(status.backfills or [], {alert["action"] for alert in status.alerts or []})
    found += _of_restrictions(status.restrictions or [])
    found += _of_pauses(status.pauses or [])
    found += _of_full(status.full or [])
    found += _of_deliveries(status)
    for queue in queues:
        found += _of_queue(queue, status.at)
    found += _outbox(status.outbox or 0)
    found += _other_workers(queues)
    found += [*_late(status.late or []), *_missed(jobs), *_clocks(jobs), *_dead_letters(queues, status.at)]
    return sorted(found, key=lambda each: not each.urgent)


def _of_problem(store: str, error: MaunticJobsError) -> StatusFinding:
    return StatusFinding(store, str(error), "mauntic-jobs doctor", urgent=True)


def _of_alert(alert: Row) -> StatusFinding:
    urgent = alert["severity"] in ("error", "critical")
    return StatusFinding(alert["cause"], alert["summary"], alert["action"], urgent)


def _overdue(jobs: Sequence[JobStatus], now: datetime) -> Iterator[StatusFinding]:
    since = {job.standing.job.name: job.standing.overdue_since for job in jobs if job.standing.overdue_since}
    if since:
        text = f"overdue, for up to {_ago(min(since.values()), now)}: is the clock running?"
        yield StatusFinding(", ".join(since), text, "mauntic-jobs schedule run", urgent=True)


def _paused_jobs(jobs: Sequence[JobStatus]) -> Iterator[StatusFinding]:
    for job in jobs:
        name, pause = job.standing.job.name, job.standing.pause
        if pause is not None:
            yield StatusFinding(name, pause.sentence, f"mauntic-jobs schedule resume {name}", urgent=True)


def _of_backfills(backfills: Sequence[Backfill], told: set[str]) -> Iterator[StatusFinding]:
    """Yield a finding for each backfill that waits for an operator, unless an alert has `told` its command."""
    for each in backfills:
        command = f"mauntic-jobs backfill resume {each.id}"
        left = f"{plural(each.left, 'window')} of {each.to_run:,} left"
        if each.abandoned and command not in told:
            text = f"backfill {each.id}: {left}, and no process works on it for {rough(each.silent)}"
            yield StatusFinding(each.job, text, command)
        elif each.state is BackfillState.PAUSED:
            yield StatusFinding(each.job, f"backfill {each.id} is paused, {left}: {each.reason}", command)


def _of_run(job: JobStatus, now: datetime) -> Iterator[StatusFinding]:
    name, last, result = job.standing.job.name, job.standing.last, job.result
    if last is None:
        return
    command = f"mauntic-jobs runs show {last['run']}"
    if result == "failed":
        yield StatusFinding(name, f"failed {_ago(last['started_at'], now)} ago: {last['error']}", command, urgent=True)
    elif result in ("partial", "lost"):
        yield StatusFinding(name, f"{result}: {last['error']}", command)
    elif result == "running" and _is_slow(job, last["seconds"]):
        usual = rough(timedelta(seconds=median(job.seconds)))
        yield StatusFinding(name, f"runs for {_ago(last['started_at'], now)}, and usually takes {usual}", command)


def _is_slow(job: JobStatus, seconds: float) -> bool:
    known = len(job.seconds) >= _MIN_RUNS
    return known and seconds > max(_SLOW * median(job.seconds), _MIN_SLOW_SECONDS)


def _of_queue(status: QueueStatus, now: datetime) -> Iterator[StatusFinding]:
    name = status.queue.name
    untaken = status.ready and not status.active and status.waiting_since and now - status.waiting_since > _UNTAKEN
    if status.is_limited and not status.is_paused:
        text = f"{status.ready:,} waiting for rate limits, pauses, or providers that fail or are slow"
        yield StatusFinding(name, text, "mauntic-jobs providers limits")
    elif untaken and status.waiting_since and not status.is_paused:
        consumer = status.queue.consumer
        text = f"{status.ready:,} waiting for {_ago(status.waiting_since, now)}, and nothing takes them"
        text += "" if consumer else ": look at the platform's journey executor"
        yield StatusFinding(name, text, consumer or None, urgent=True)
    if status.is_paused:
        yield StatusFinding(name, "paused by the platform: nothing is taken until it is resumed there", None)


def _other_workers(queues: Sequence[QueueStatus]) -> Iterator[StatusFinding]:
    # Steps of journeys are the platform's to execute.
    beside = [each for each in queues if each.other_workers and each.queue.kind is not QueueKind.JOURNEY]
    meanings = {
        QueueKind.DELIVERY: "workers of another program take messages too: they know no limits and no pauses, "
        "and if either dies, one may be sent twice",
        QueueKind.SCHEDULED: "workers of another program run the job too",
    }
    for kind, meaning in meanings.items():
        names = [each.queue.name for each in beside if each.queue.kind is kind]
        if names:
            yield StatusFinding(", ".join(names), meaning, "mauntic-jobs doctor")


def _of_restrictions(restrictions: Sequence[Row]) -> Iterator[StatusFinding]:
    """Yield a finding for each pause and rate, of many for the latest ones: what is held back is easily forgotten."""
    for row in restrictions[:_RESTRICTIONS_SHOWN]:
        held = f"{effect_of(row['rate'])} {end_words(row['until'])}"
        text = f"{scope_of(row)}: {held}, by {row['set_by']}: {row['why']}"
        yield StatusFinding("deliver", text, f"mauntic-jobs deliveries resume {row['id']}", urgent=row["rate"] == 0)
    more = restrictions[_RESTRICTIONS_SHOWN:]
    if more:
        text = f"{plural(len(more), 'more pause or rate', 'more pauses and rates')}"
        yield StatusFinding("deliver", text, "mauntic-jobs deliveries restrictions", urgent=True)


def _of_full(limits: Sequence[ProviderLimit]) -> Iterator[StatusFinding]:
    """Yield a finding for each provider that has sent its messages of the day, of many for the first to have room."""
    for limit in limits[:_FULL_SHOWN]:
        allowed = f" of {limit.daily:,} messages" if limit.daily is not None else ""
        text = f"provider {limit.provider} has used up its day{allowed}, {limit.waiting:,} waiting: room, or asked "
        text += f"again, at {limit.full_until:%Y-%m-%d %H:%M} UTC"
        yield StatusFinding("deliver", text, f"mauntic-jobs providers limits --org {limit.organization}")
    if len(limits) > _FULL_SHOWN:
        text = f"{plural(len(limits) - _FULL_SHOWN, 'more provider has', 'more providers have')} used up the day"
        yield StatusFinding("deliver", text, "mauntic-jobs providers limits")


def _of_pauses(pauses: Sequence[Row]) -> Iterator[StatusFinding]:
    """Yield a finding for each kind of provider and refusal: a host that is down is the same fault for all tenants."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in pauses:
        kind = row["provider"].partition(" ")[0]
        groups.setdefault((row["channel"], kind, normalised(row["reason"])), []).append(row)
    for (channel, kind, _), rows in groups.items():
        organizations = list(dict.fromkeys(str(row["organization_id"]) for row in rows))
        held = sum({(row["organization_id"], row["channel"]): row["held"] for row in rows}.values())
        name = rows[0]["provider"] if len(rows) == 1 else plural(len(rows), f"{kind} provider")
        whose = f"organization {organizations[0]}" if len(organizations) == 1 else _several(organizations)
        since = min(row["since"] for row in rows)
        waiting = "nothing waits for it" if not held else f"{held:,} {channel} waiting"
        tries = plural(max(row["tries"] for row in rows), "try", "tries")
        text = (
            f"{name} of {whose} refuses since {since:%Y-%m-%d %H:%M} UTC ({tries}); "
            f"{waiting}: {mask_text(rows[0]['reason'])}"
        )
        org = f" --org {organizations[0]}" if len(organizations) == 1 else ""
        yield StatusFinding("providers", text, f"mauntic-jobs providers check{org} --retry-now", urgent=bool(held))


def _several(organizations: Sequence[str]) -> str:
    named, more = organizations[:2], len(organizations) - 2
    others = f" and {more:,} more" if more > 0 else ""
    return f"{plural(len(organizations), 'organization')} ({', '.join(named)}{others})"


def _of_deliveries(status: InstallationStatus) -> Iterator[StatusFinding]:
    held = [row for row in status.deliveries or [] if row["state"] == "held"]
    if held:
        count, oldest = sum(row["deliveries"] for row in held), min(row["oldest"] for row in held)
        text = f"{count:,} may have been sent or not, for up to {_ago(oldest, status.at)}: a human must decide"
        yield StatusFinding("deliveries", text, "mauntic-jobs deliveries list --state ambiguous", urgent=True)
    deferred = sum(row["deliveries"] for row in status.deliveries or [] if row["state"] == "deferred")
    if deferred:
        text = f"{deferred:,} deferred for want of a provider that works"
        yield StatusFinding("deliveries", text, "mauntic-jobs deliveries list --state deferred")
    expired = sum(row["deliveries"] for row in status.deliveries or [] if row["state"] == "expired")
    if expired:
        text = f"{expired:,} expired within a day: older than --max-age when their turn came, and not sent"
        yield StatusFinding("deliveries", text, "mauntic-jobs deliveries list --state expired")


def _late(late: Sequence[LateEvents]) -> Iterator[StatusFinding]:
    many = [each for each in late if each.share >= _MANY_LATE]
    if many:
        text = f"{plural(len(many), 'organization')} with at least 1% of late events: {late_text(many[0])}"
        yield StatusFinding("late events", text, "mauntic-jobs runs list --job generate-daily-reports")


def late_text(late: LateEvents) -> str:
    """Return how many events of an organization came late, and how late at most."""
    return f"{late.organization} {late.share:.1%} ({late.late:,} of {late.events:,}, up to {late.hours} h late)"


def _missed(jobs: Sequence[JobStatus]) -> Iterator[StatusFinding]:
    missed = {job.standing.job.name: job.standing.missed for job in jobs if job.standing.missed}
    if missed:
        text = f"slots missed within {MISSED_WITHIN.days} days: {sum(missed.values()):,}"
        yield StatusFinding(", ".join(missed), text, "mauntic-jobs runs list --status missed")


def _clocks(jobs: Sequence[JobStatus]) -> Iterator[StatusFinding]:
    several = [job for job in jobs if len(job.standing.clocks) > 1]
    if several:
        names = sorted({name for job in several for name in job.standing.clocks})
        text = f"a second clock is on: {' and '.join(names)}"
        yield StatusFinding(", ".join(job.standing.job.name for job in several), text, "mauntic-jobs schedule list")


def _outbox(count: int) -> Iterator[StatusFinding]:
    if count:
        jobs = f"{'at least ' if count >= MAX_COUNTED else ''}{plural(count, 'job')}"
        text = f"{jobs} of runs not on the queue yet, for want of room there, or of a clock that publishes them"
        yield StatusFinding("outbox", text, "mauntic-jobs outbox publish --wait 1h")


def _dead_letters(queues: Sequence[QueueStatus], now: datetime) -> Iterator[StatusFinding]:
    failed = {each.queue.name: each for each in queues if each.failed and each.failed_since}
    if failed:
        oldest = min(each.failed_since for each in failed.values() if each.failed_since)
        text = f"dead letters: {sum(each.failed for each in failed.values()):,}, the oldest {_ago(oldest, now)} old"
        yield StatusFinding(", ".join(failed), text, "mauntic-jobs dlq list")


def _ago(instant: datetime, now: datetime) -> str:
    return rough(now - instant)


_STEPS: Sequence[tuple[timedelta, str]] = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "m"),
)


def rough(duration: timedelta) -> str:
    """Return a length of time in its largest unit: `12s`, `3m`, `5h`, `2d`."""
    for unit, name in _STEPS:
        if duration >= unit:
            return f"{duration // unit}{name}"
    return f"{max(0, round(duration.total_seconds()))}s"
