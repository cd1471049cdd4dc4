"""The record of slots in the database: reading it in one query, and writing what was passed over."""

import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from mauntic_jobs import __version__
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import Row
from mauntic_jobs.runner.claim import release_dead
from mauntic_jobs.runner.clock_skew import MAX_SKEW
from mauntic_jobs.runner.job_pause import job_pause
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.schedule_settings import stored_schedule
from mauntic_jobs.scheduler.plan import Plan, SlotState, plan
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Window

# For how long a slot waits that was lost for the second time; meanwhile later ones are run.
_PAUSE_AFTER_LOSS = timedelta(minutes=5)

_sql = statements("schedules")


def read_plans(installation: Installation) -> list[Plan]:
    """Return the plan of each job at the installation's `now`, the database's time, by a single query.

    `jobs` are as the settings want them scheduled, those of the plans as the database wants them. Raises
    ConfigurationError for a schedule in the database that cannot be used.
    """
    settings, jobs = installation.settings, installation.jobs
    names = [job.name for job in jobs]
    wanted = {"jobs": names, "takeover_after": settings.takeover_after, "pause": _PAUSE_AFTER_LOSS}
    states = {row["job"]: _state(row, installation.now) for row in installation.session.rows(_sql["state"], wanted)}
    return [plan(job, states[job.name], settings, installation.now) for job in jobs]


def record(
    session: Session, plans: Sequence[Plan], settings: Settings, launcher: Launcher, log: Callable[[str], None]
) -> bool:
    """Write down what the plans pass over, and how far the slots are settled; nothing where there is no news.

    Returns whether there may be more to do by now: slots of the future were settled, or a cron line was changed.
    """
    set_by = f"{launcher} on {settings.launcher_id or socket.gethostname()}"
    resets = [each for each in plans if each.resets]
    for each in resets:
        _reset(session, each, log)
    for each in plans:
        if not each.news or each.resets:
            continue
        release_dead(session, each.job.name, settings.takeover_after, log)
        with session.transaction(Limits("mauntic-jobs schedule")):
            if each.passed:
                session.execute(_sql["pass_over"], _passed(each, settings, launcher))
            session.execute(_sql["settle"], {**_settled(each), "set_by": set_by})
    return any(each.resets or each.changed for each in plans)


def _reset(session: Session, each: Plan, log: Callable[[str], None]) -> None:
    voided = {"job": each.job.name, "tolerance": MAX_SKEW, "within": each.job.catch_up.within}
    with session.transaction(Limits("mauntic-jobs schedule")):
        reset = session.rows(_sql["reset"], voided)
    for row in reset:
        log(
            f"schedule: the slots of {each.job.name} were settled up to {each.settled:%Y-%m-%dT%H:%M}Z, which is yet "
            f"to come: a clock was ahead. They are settled up to {row['settled']:%Y-%m-%dT%H:%M}Z now; later ones are "
            "run at their time."
        )


def installed_at(session: Session) -> datetime:
    """Return when the first migration was applied, aware, in UTC."""
    at: datetime = session.row(_sql["installed"])["at"]
    return at


def _state(row: Row, now: datetime) -> SlotState:
    running = None if row["running"] is None else f"run {row['running']} on {row['running_on']}"
    return SlotState(
        row["cron"],
        row["settled"],
        row["latest"],
        frozenset(row["done"]),
        frozenset(row["open"]),
        running,
        frozenset(row["held"]),
        tuple(row["former"]),
        stored_schedule(row),
        (row["previous_cron"], row["previous_until"]) if row["previous_until"] is not None else None,
        job_pause(row, now),
    )


def _settled(each: Plan) -> dict[str, object]:
    return {
        "job": each.job.name,
        "cron": each.cron,
        "former": list(each.former),
        "at": each.at,
        "settled": each.settled,
        "known_cron": each.known.cron,
        "known_settled": each.known.settled,
        "known_former": list(each.known.former),
    }


def _passed(each: Plan, settings: Settings, launcher: Launcher) -> dict[str, object]:
    windows = [Window.before(passed.slot, each.job.unit) for passed in each.passed]
    return {
        "job": each.job.name,
        "launcher": launcher.value,
        "launcher_id": settings.launcher_id or "",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": __version__,
        "slots": [passed.slot for passed in each.passed],
        "starts": [window.start for window in windows],
        "ends": [window.end for window in windows],
        "statuses": [passed.status.value for passed in each.passed],
        "reasons": [passed.reason for passed in each.passed],
    }
