"""`outbox`: jobs that committed runs add to BullMQ queues."""

from contextlib import closing
from typing import Annotated

import typer

from mauntic_jobs.cli.documents.installation import PublishedJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.output import log, print_json, print_line
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.outbox import count_unpublished, left_sentence, publish_all
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_duration
from mauntic_jobs.wording import plural

app = new_app("The outbox: jobs that committed runs want put on BullMQ queues.")


@command(app, "publish", example="mauntic-jobs outbox publish --wait 1h", prints=PublishedJson)
def publish_outbox(
    settings: Settings,
    *,
    wait: Annotated[str, typer.Option(metavar="TIME", help="How long to wait for room on full queues.")] = "0s",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    json: JsonOutput = False,
) -> None:
    """Put on their queues what runs have left behind: killed ones, and those that found a queue full.

    Doubles nothing. Exits 3 if some found no room.
    """
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        done = publish_all(session, redis, settings, clock.now, parse_duration(wait))
        left = count_unpublished(session) if done.full else 0
    if json:
        print_json({"published": done.published, "dropped": done.dropped, "left": left})
    elif not quiet:
        print_line(f"{plural(done.published, 'job')} published, {done.dropped:,} no longer wanted")
        if left:
            log(left_sentence(left))
    raise typer.Exit(ExitCode.PARTIAL if left else ExitCode.DONE)
