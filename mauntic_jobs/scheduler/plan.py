"""Plan of a job's slots: which are due, and which are passed over, and why. Reads and writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby, takewhile

from mauntic_jobs.job import AnyJob
from mauntic_jobs.runner.clock_skew import MAX_SKEW
from mauntic_jobs.runner.job_pause import JobPause
from mauntic_jobs.runner.request import Status
from mauntic_jobs.runner.schedule_settings import StoredSchedule, as_stored
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping.catch_up import ON_TIME, Which
from mauntic_jobs.timekeeping.cron import slots
from mauntic_jobs.timekeeping.window import Window, format_duration

# A record of how far slots are settled that lags behind by more is brought up to date without another reason.
_MAX_LAG = 100
# A line that was changed and comes back within this counts as that of a second clock.
_MAX_TURN = timedelta(days=1)


@dataclass(frozen=True)
class SlotState:
    """What the database knows of a job's slots.

    `cron` and `settled` are None for a job that was never scheduled: the line whose slots are accounted for, and the
    instant up to which they are settled. `former` are lines that were changed, whose slots after that instant count as
    well. Of the slots after that, `done` have ended, whatever their result, `open` are being run, and `held` were lost
    repeatedly and wait for a while. `latest` is the latest that was ever claimed; `running` names the run that is under
    way, if there is one. `stored` is the schedule that the database sets for every clock, `previous` the
    line before this one, and the instant up to which its slots count. `pause` is that of an operator.
    """

    cron: str | None = None
    settled: datetime | None = None
    latest: datetime | None = None
    done: frozenset[datetime] = frozenset()
    open: frozenset[datetime] = frozenset()
    running: str | None = None
    held: frozenset[datetime] = frozenset()
    former: tuple[str, ...] = ()
    stored: StoredSchedule | None = None
    previous: tuple[str, datetime] | None = None
    pause: JobPause | None = None


@dataclass(frozen=True)
class SkippedSlot:
    """A slot that no clock is going to run."""

    slot: datetime
    status: Status
    reason: str


@dataclass(frozen=True)
class Plan:
    """What is to be done for a job: the slots to run, oldest first, and those to record as passed over.

    `settled`, `cron` and `former` are the record to be kept of it; `news` is whether that is worth writing, unless the
    record is no longer what `known` says. `waits_for` is the run that is under way, if one is. With `resets`, slots of
    the future are settled, which has to be taken back first. `unseen` is whether no clock has ever looked at the job,
    `changed` whether its cron line is a new one from here on, whose slots the next look counts.
    `waiting` are the slots that are due and those for whose data a due one stands, oldest first.
    """

    job: AnyJob
    due: Sequence[datetime]
    passed: Sequence[SkippedSlot]
    open: frozenset[datetime]
    settled: datetime
    cron: str
    news: bool
    known: SlotState
    at: datetime
    former: tuple[str, ...] = ()
    waits_for: str | None = None
    resets: bool = False
    unseen: bool = False
    changed: bool = False
    waiting: Sequence[datetime] = ()


def plan(job: AnyJob, state: SlotState, settings: Settings, now: datetime) -> Plan:
    """Return what is to be done for `job` at `now`, the database's time, aware, in UTC.

    A job that was never scheduled starts with the slot that has just struck, or after the latest that was claimed.
    When its cron line was changed, the slots of both lines count, from the last one that had been accounted for before
    the change was seen until none is left: between two looks it is unknown which of the lines was the right one. What
    the database sets of the schedule wins over `job`, and the plan's job has it.
    """
    job = as_stored(job, state.stored)
    if state.settled is not None and state.settled > now + MAX_SKEW:
        return _reset(job, state, state.settled, now)
    if state.pause is not None:
        return _paused(job, state, now)
    start = state.settled if state.settled is not None else state.latest or now - ON_TIME
    struck = struck_slots({state.cron or job.cron, *state.former}, start, now)
    left = [slot for slot in struck if slot not in state.done and slot not in state.open]
    due, passed = _choose(job, [slot for slot in left if slot not in state.held], struck, settings, now)
    stood_for = [each.slot for each in passed if each.status is Status.SUPERSEDED]
    changed = state.cron is not None and state.cron != job.cron
    # A new line counts from what was accounted for before this look, which is all that shows the old line in use.
    accounted = state.done if changed else state.done | {each.slot for each in passed}
    settled_slots = list(takewhile(lambda slot: slot in accounted, struck))
    former = _former(job, state) if len(settled_slots) < len(struck) else ()
    is_record_old = changed or state.cron is None or former != state.former or len(settled_slots) > _MAX_LAG
    return Plan(
        job=job,
        due=due,
        passed=passed,
        open=state.open,
        settled=_returns_from(job, state, (settled_slots or [start])[-1], now),
        cron=job.cron,
        news=is_record_old or bool(due or passed),
        known=state,
        at=now,
        former=former,
        waits_for=state.running,
        unseen=state.settled is None and state.latest is None,
        changed=changed,
        waiting=sorted([*due, *stood_for]) if due and job.catch_up.which is Which.ALL else due,
    )


def _reset(job: AnyJob, state: SlotState, settled: datetime, now: datetime) -> Plan:
    """Return the plan of a job of which slots of the future are settled: to take that back, and nothing else."""
    return Plan(
        job=job,
        due=[],
        passed=[],
        open=state.open,
        settled=settled,
        cron=state.cron or job.cron,
        news=True,
        known=state,
        at=now,
        former=state.former,
        waits_for=state.running,
        resets=True,
    )


def _paused(job: AnyJob, state: SlotState, now: datetime) -> Plan:
    """Return the plan of a job whose slots wait: after its pause they are caught up with as after any other gap."""
    return Plan(
        job=job,
        due=[],
        passed=[],
        open=state.open,
        settled=state.settled or state.latest or now,
        cron=state.cron or job.cron,
        news=False,
        known=state,
        at=now,
        former=state.former,
        waits_for=state.running,
    )


def _returns_from(job: AnyJob, state: SlotState, settled: datetime, now: datetime) -> datetime:
    """Return the instant after which slots count: an earlier one for a line that comes back within a day.

    The clock of that line may have been on all the time, and only looks more rarely than the other one.
    """
    line, until = state.previous or (None, now)
    returns = line == job.cron != state.cron and now - until <= _MAX_TURN
    return min(settled, until) if returns else settled


def struck_slots(lines: set[str], start: datetime, now: datetime) -> list[datetime]:
    """Return the slots of all the lines together that have struck after `start`, oldest first."""
    return sorted({slot for line in lines for slot in takewhile(lambda slot: slot <= now, slots(line, start))})


def _former(job: AnyJob, state: SlotState) -> tuple[str, ...]:
    """Return the lines beside the job's own whose slots are not all accounted for."""
    lines = [*state.former, *([state.cron] if state.cron is not None else [])]
    return tuple(line for line in dict.fromkeys(lines) if line != job.cron)


def passed_lines(job: str, passed: Sequence[SkippedSlot]) -> list[str]:
    """Return a line for each run of slots of a job that were passed over for the same reason."""
    lines = []
    for (status, reason), group in groupby(passed, lambda each: (each.status, each.reason)):
        found = [each.slot for each in group]
        last = f" to {found[-1]:%Y-%m-%dT%H:%M}Z ({len(found):,} slots)" if len(found) > 1 else ""
        lines.append(f"{job} {found[0]:%Y-%m-%dT%H:%M}Z{last} {status}: {reason}")
    return lines


def ordered(plans: Sequence[Plan]) -> list[tuple[AnyJob, datetime]]:
    """Return the due slots in the order in which the data wants them: by time, then as the jobs are given."""
    due = [(slot, number, each.job) for number, each in enumerate(plans) for slot in each.due]
    return [(job, slot) for slot, _, job in sorted(due, key=lambda item: item[:2])]


def without(each: Plan, tried: set[tuple[str, datetime]]) -> Plan:
    """Return the plan without slots that were tried already."""
    return replace(each, due=[slot for slot in each.due if (each.job.name, slot) not in tried])


def _choose(
    job: AnyJob, left: Sequence[datetime], struck: Sequence[datetime], settings: Settings, now: datetime
) -> tuple[list[datetime], list[SkippedSlot]]:
    """Return which of the slots that are `left` are run, and which are passed over; `struck` are all of them."""
    if not left:
        return [], []
    policy, newest = job.catch_up, struck[-1]
    oldest = now - policy.within
    in_time = [slot for slot in left if slot >= oldest]
    late = f"no clock ran it within {format_duration(policy.within)}"
    if policy.which is Which.LATEST:
        if newest == left[-1] and newest < oldest:
            return [], [SkippedSlot(slot, Status.MISSED, late) for slot in left]
        due = [slot for slot in in_time if slot == newest]
        return due, [SkippedSlot(slot, Status.SUPERSEDED, _instead(newest)) for slot in left if slot != newest]
    stand_ins = _stand_ins(job, left, in_time, settings) if policy.which is Which.ALL else {}
    passed = [
        SkippedSlot(slot, Status.SUPERSEDED, _instead(stand_ins[slot]))
        if slot in stand_ins
        else SkippedSlot(slot, Status.MISSED, late)
        for slot in left
        if slot in stand_ins or slot < oldest
    ]
    return [slot for slot in in_time if slot not in stand_ins], passed


def _instead(slot: datetime) -> str:
    return f"slot {slot:%Y-%m-%dT%H:%M}Z stands for it"


def _stand_ins(
    job: AnyJob, left: Sequence[datetime], in_time: Sequence[datetime], settings: Settings
) -> dict[datetime, datetime]:
    """Return the slots whose buckets are rebuilt whole for another slot, with that one.

    Of the slots of one bucket the latest stands for the others, however old they are; a slot is run all the same if it
    covers a further bucket that no other covers.
    """
    if job.bucket is None or not in_time:
        return {}
    latest = {job.bucket.floor(Window.before(slot, job.unit).start): slot for slot in in_time}
    covered = {bucket: slot for slot in latest.values() for bucket in _buckets(job, slot, settings)}
    stand_ins: dict[datetime, datetime] = {}
    first = min(covered)
    for slot in reversed(left):
        if slot in latest.values() or slot <= first:
            continue
        buckets = _buckets(job, slot, settings)
        if all(bucket in covered for bucket in buckets):
            stand_ins[slot] = covered[buckets[-1]]
        elif slot >= in_time[0]:
            covered.update(dict.fromkeys(buckets, slot))
            first = min(covered)
    return stand_ins


def _buckets(job: AnyJob, slot: datetime, settings: Settings) -> list[datetime]:
    """Return the starts of the buckets that a slot's run rebuilds, oldest first."""
    coverage = job.coverage(Window.before(slot, job.unit), job.options(), settings)
    return [bucket.start for bucket in coverage.split(job.bucket)]
