"""`schedule set` and `schedule unset`: a job's schedule in the database, the same for every clock."""

from collections.abc import Callable
from typing import Annotated

import typer

from mauntic_jobs.cli.documents.schedule import ScheduleChangeJson, ScheduleJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.options import JobName
from mauntic_jobs.cli.framework.output import log, print_json, print_line
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import AnyJob
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner.schedule_settings import StoredSchedule, as_stored, overruled, read_stored, store, unset
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.catch_up import parse_catch_up
from mauntic_jobs.timekeeping.cron import check_cron


def register_settings(app: typer.Typer) -> None:
    """Add the commands to the group `schedule`."""

    @command(
        app,
        "set",
        example="mauntic-jobs schedule set segment-trigger-eval --cron '*/15 * * * *'",
        prints=ScheduleChangeJson,
    )
    def set_schedule(
        settings: Settings,
        job: JobName,
        *,
        cron: Annotated[str | None, typer.Option(metavar="LINE", help="Five fields, in UTC.")] = None,
        catch_up: Annotated[str | None, typer.Option(metavar="POLICY", help="none, latest/24h or all/48h.")] = None,
        json: JsonOutput = False,
    ) -> None:
        """Set a job's cron line or catch-up policy in the database, for every clock: it wins over their own settings.

        A clock that stays notices it within five minutes. What is not given stays as it is.
        """
        if cron is None and catch_up is None:
            raise UsageError("Nothing to set. Give --cron, --catch-up or both.")
        line = check_cron(cron) if cron is not None else None
        policy = parse_catch_up(catch_up) if catch_up is not None else None
        _change(settings, job, lambda session: store(session, job, line, policy, settings), json=json)

    @command(app, "unset", example="mauntic-jobs schedule unset segment-trigger-eval", prints=ScheduleChangeJson)
    def unset_schedule(settings: Settings, job: JobName, *, json: JsonOutput = False) -> None:
        """Remove what the database sets of a job's schedule: the settings of each clock decide again."""
        _change(settings, job, lambda session: unset(session, job), json=json)


def _change(settings: Settings, name: str, change: Callable[[Session], StoredSchedule | None], *, json: bool) -> None:
    """Make a change, which returns what was set before, and print the schedule before and after."""
    job = find_job(name).configured(settings)
    with connect(settings) as session:
        before = change(session)
        after = read_stored(session).get(name)
    if json:
        changed: ScheduleChangeJson = {"job": name, "before": _shown(job, before), "after": _shown(job, after)}
        print_json(changed)
    else:
        print_line(f"{name}: {_line(job, before)} before, {_line(job, after)} now")
    for sentence in overruled(name, after, settings):
        log(f"{name}: {sentence}.", "warning")
    if as_stored(job, before).cron != as_stored(job, after).cron:
        log("A crontab with a line for this job needs `schedule export crontab`, BullMQ `schedule register`.")


def _shown(job: AnyJob, stored: StoredSchedule | None) -> ScheduleJson:
    scheduled = as_stored(job, stored)
    return {"cron": scheduled.cron, "catch_up": str(scheduled.catch_up)}


def _line(job: AnyJob, stored: StoredSchedule | None) -> str:
    shown = _shown(job, stored)
    return f"`{shown['cron']}`, {shown['catch_up']}"
