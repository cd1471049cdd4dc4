"""Slots that no clock runs, or that none ran in time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

from mauntic_jobs.alerts.alert import Alert, Cause, Detail, Severity
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.runner.slot_request import uncovered_windows
from mauntic_jobs.scheduler.plan import Plan
from mauntic_jobs.scheduler.slots import installed_at, read_plans
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.cron import next_slot
from mauntic_jobs.timekeeping.window import Window

# Slots that were passed over stay alerts for this long, unless they are backfilled.
_REMEMBERED = timedelta(days=1)
# After the first `db upgrade` a clock is expected to be set up within this.
_SETTING_UP = timedelta(days=1)

_sql = statements("run_alerts")


def slots_missed(installation: Installation) -> list[Alert]:
    """Return an alert for each job with a slot that is overdue, or was passed over lately and not made up for."""
    now = installation.now
    plans = read_plans(installation)
    ahead = [_settled_ahead(each) for each in plans if each.resets]
    overdue = [each for each in plans if each.waiting and now - each.waiting[0] > installation.settings.overdue_after]
    late = {each.job.name for each in plans if each in overdue or each.resets}
    passed = [rows for rows in _passed_over(installation) if rows[0]["job"] not in late]
    known = {job.name: job for job in installation.jobs}
    never = _never_run(installation.session, [each.job for each in plans if each.unseen], now)
    return (
        ahead + never + [_overdue(each) for each in overdue] + [_missed(rows, known[rows[0]["job"]]) for rows in passed]
    )


def _passed_over(installation: Installation) -> list[list[Row]]:
    session, known = installation.session, {job.name: job for job in installation.jobs}
    rows = session.rows(_sql["missed"], {"jobs": list(known), "since": installation.now - _REMEMBERED})
    found = []
    for name, group in groupby(rows, lambda row: str(row["job"])):
        missed = list(group)
        left = set(uncovered_windows(session, [_window(row) for row in missed], known[name], installation.settings))
        found.append([row for row in missed if _window(row) in left])
    return [missed for missed in found if missed]


def _window(row: Row) -> Window:
    return Window(row["window_start"], row["window_end"])


def _overdue(each: Plan) -> Alert:
    since = f"{each.waiting[0]:%Y-%m-%d %H:%M} UTC"
    slots = f"{len(each.waiting)} slots wait" if len(each.waiting) > 1 else "its slot waits"
    text = f"{each.job.name} is overdue since {since}: {slots} for a clock to run them."
    return _alert(each.job, text, slots=len(each.waiting), since=each.waiting[0].isoformat())


def _settled_ahead(each: Plan) -> Alert:
    text = (
        f"The slots of {each.job.name} are settled up to {each.settled:%Y-%m-%d %H:%M} UTC, which is yet to come: "
        "a clock was ahead. The next look of a clock takes that back."
    )
    return _alert(each.job, text, settled=each.settled.isoformat())


def _never_run(session: Session, unseen: Sequence[AnyJob], now: datetime) -> list[Alert]:
    if not unseen:
        return []
    expected = installed_at(session) + _SETTING_UP
    first = [(job, next_slot(job.cron, expected)) for job in unseen]
    return [_unseen(job, slot) for job, slot in first if slot <= now]


def _unseen(job: AnyJob, slot: datetime) -> Alert:
    text = (
        f"{job.name} has never been run, and no clock has looked at it: its slot of {slot:%Y-%m-%d %H:%M} UTC "
        "has passed since `db upgrade`."
    )
    return _alert(job, text, since=slot.isoformat())


def _missed(rows: Sequence[Row], job: AnyJob) -> Alert:
    first, last = rows[0]["window_start"], rows[-1]["window_end"]
    slots = f"{len(rows)} slots" if len(rows) > 1 else "A slot"
    text = f"{slots} of {job.name} came too late to be caught up with: {Window(first, last)} is not covered."
    action = f"mauntic-jobs runs list --job {job.name} --status missed"
    return _alert(job, text, action, slots=len(rows), since=rows[0]["slot"].isoformat())


def _alert(job: AnyJob, summary: str, action: str = "mauntic-jobs schedule run", **details: Detail) -> Alert:
    severity = Severity.ERROR if job.critical else Severity.WARNING
    return Alert(Cause.SLOT_MISSED, job.name, severity, summary, action, details)
