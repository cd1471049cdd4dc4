"""`schedule pause` and `schedule resume`: a job whose slots wait, whichever clock would run them."""

import typer

from mauntic_jobs.cli.framework.command import command
from mauntic_jobs.cli.framework.options import For, JobName, Until, Why, checked_reason, end_of
from mauntic_jobs.cli.framework.output import print_line
from mauntic_jobs.errors import UsageError
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.ops.operator_name import operator_name
from mauntic_jobs.runner.job_pause import JobPause, pause_job, read_pause, resume_job
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock


def register_pause(app: typer.Typer) -> None:
    """Add the commands to the group `schedule`."""
    job = "segment-trigger-eval"
    command(app, "pause", example=f"mauntic-jobs schedule pause {job} --for 2h --why migration")(pause_schedule)
    command(app, "resume", example=f"mauntic-jobs schedule resume {job}")(resume_schedule)


def pause_schedule(settings: Settings, job: JobName, *, why: Why, until: Until = None, lasts: For = None) -> None:
    """Let the slots of a job wait until a time, whichever clock would run them; runs by hand go on as always.

    A run that is under way ends by itself. Afterwards the slots are caught up with by the job's policy.
    """
    name, end = find_job(job).name, end_of(until, lasts)
    if end is None:
        raise UsageError("Say until when: --until 2026-10-01T09:00, or --for 2h.")
    pause = JobPause(end, checked_reason(why), operator_name())
    with connect(settings) as session:
        pause_job(session, name, pause, clock.now())
    print_line(f"{name}: {pause.sentence}")


def resume_schedule(settings: Settings, job: JobName) -> None:
    """End the pause of a job: a clock runs what is due within five minutes."""
    name = find_job(job).name
    with connect(settings) as session:
        pause = read_pause(session, name, clock.now())
        resume_job(session, name)
    print_line(f"{name}: {f'was {pause.sentence}' if pause else 'was not paused'}")
