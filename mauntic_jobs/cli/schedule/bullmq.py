"""`schedule register` and `schedule unregister`: BullMQ as the clock."""

from collections import Counter
from typing import Annotated

import typer

from mauntic_jobs.bullmq import (
    Registration,
    ScheduledJob,
    register_scheduled_jobs,
    unregister_scheduled_jobs,
)
from mauntic_jobs.bullmq.queue import queue_of
from mauntic_jobs.cli.documents.schedule import SchedulerJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.output import log, print_json, print_table
from mauntic_jobs.cli.framework.scheduled_jobs import jobs_as_stored, scheduled_jobs
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import AnyJob
from mauntic_jobs.settings.settings import Settings

Adopt = Annotated[bool, typer.Option("--adopt", help="Take over what another program has BullMQ schedule.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would change.")]


def register_bullmq(app: typer.Typer) -> None:
    """Add the commands to the group `schedule`."""

    @command(app, "register", example="mauntic-jobs schedule register --dry-run", prints=list[SchedulerJson])
    def register(
        settings: Settings, *, adopt: Adopt = False, dry_run: DryRun = False, json: JsonOutput = False
    ) -> None:
        """Have BullMQ launch the jobs: add a job scheduler for each to its queue. Doing it again changes nothing.

        A scheduler of another program on the same queue, under any name, is left alone unless `--adopt` is given.
        """
        rows = []
        jobs = jobs_as_stored(settings).values()
        shared = Counter(job.queue for job in jobs)
        for job in jobs:
            found = register_scheduled_jobs(
                queue_of(job, settings),
                [ScheduledJob(job.name, job.cron)],
                dry_run=dry_run,
                exclusive=shared[job.queue] == 1,
                adopt=adopt,
            )
            rows.append(_row(job, found[job.name]))
        _show(rows, json=json)

    @command(app, "unregister", example="mauntic-jobs schedule unregister", prints=list[SchedulerJson])
    def unregister(settings: Settings, *, dry_run: DryRun = False, json: JsonOutput = False) -> None:
        """Remove the job schedulers that `schedule register` added, and no others."""
        rows = []
        for job in scheduled_jobs(settings).values():
            found = unregister_scheduled_jobs(queue_of(job, settings), [job.name], dry_run=dry_run)
            rows.append(_row(job, found[job.name]))
        _show(rows, json=json)


def _row(job: AnyJob, registration: Registration) -> SchedulerJson:
    return {"job": job.name, "queue": job.queue, "cron": job.cron, "scheduler": registration}


def _show(rows: list[SchedulerJson], *, json: bool) -> None:
    if json:
        print_json(rows)
    else:
        print_table(rows)
    if any(row["scheduler"] == Registration.FOREIGN for row in rows):
        log("`mauntic-jobs doctor` names the other program's schedulers, `schedule register --adopt` takes them over.")
        raise typer.Exit(ExitCode.PARTIAL)
