"""`recover`: recovery after Redis has lost data."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from mauntic_jobs.cli.documents.installation import RecoveryJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, root
from mauntic_jobs.cli.framework.output import print_json, print_line, print_table
from mauntic_jobs.cli.framework.scheduled_jobs import scheduled_jobs
from mauntic_jobs.job import Row
from mauntic_jobs.ops.recover import Recovery, recover
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.wording import plural


@command(root, "recover", example="mauntic-jobs recover --yes", prints=RecoveryJson)
def recover_redis(
    settings: Settings,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it. Without it, only show what would be done.")] = False,
    json: JsonOutput = False,
) -> None:
    """Put back what a Redis that lost its data owes: messages, steps of journeys, job schedulers. Doubles nothing.

    What only Redis knew is listed, by campaign and by journey. Can be run again at any time.
    """
    jobs = list(scheduled_jobs(settings).values())
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        done = recover(session, redis, settings, jobs, clock.now(), dry_run=not yes)
    if json:
        print_json({"dry_run": not yes, **asdict(done)})
        return
    _print(done, dry_run=not yes)


def _print(done: Recovery, *, dry_run: bool) -> None:
    print_line(done.loss.sentence if done.loss else "No loss of data was noticed that is not recovered from.")
    column = "would put back" if dry_run else "put back"
    print_table([{"what": what, "owed": owed, column: count} for what, owed, count in _counts(done)])
    if done.lost:
        given_up = "would be given up" if dry_run else "given up"
        print_line(
            f"{plural(done.lost, 'message')} {given_up}: their process died, and Redis had the only copy. "
            "See mauntic-jobs deliveries list --state failed --state ambiguous"
        )
    if done.sending:
        print_line(f"{plural(done.sending, 'message')} being sent: if no deliver runs, run this again in a minute")
    if done.campaigns:
        print_line("Campaigns with messages that no process had claimed. Their producer must add them again:")
        print_table([_campaign(row) for row in done.campaigns])
    if done.journeys:
        print_line("Journeys with executions under way. Only the platform's executor can queue their next steps again:")
        print_table(done.journeys)
    if dry_run:
        print_line("Nothing was changed. To do it: mauntic-jobs recover --yes")


def _counts(done: Recovery) -> list[tuple[str, int | None, int]]:
    return [
        ("messages", done.owed, done.messages),
        ("first steps of journeys", done.unmoved, done.executions),
        (
            f"job schedulers: {', '.join(done.schedulers)}" if done.schedulers else "job schedulers",
            None,
            len(done.schedulers),
        ),
    ]


def _campaign(row: Row) -> Row:
    missing = row["recipient_count"] - row["known"] - row["queued"]
    return {"campaign": row["id"], "recipients": row["recipient_count"], "lost": plural(missing, "message")}
