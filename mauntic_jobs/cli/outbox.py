"""`outbox`: jobs that committed runs add to BullMQ queues."""

from contextlib import closing

from mauntic_jobs.cli.documents.installation import PublishedJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.output import print_json, print_line
from mauntic_jobs.runner.outbox import publish
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.wording import plural

app = new_app("The outbox: jobs that committed runs want put on BullMQ queues.")


@command(app, "publish", example="mauntic-jobs outbox publish", prints=PublishedJson)
def publish_outbox(settings: Settings, *, json: JsonOutput = False) -> None:
    """Put on their queues what runs that were killed, or had no Redis, left behind. Doubles nothing."""
    with connect(settings) as session, closing(open_redis(settings)) as redis:
        done = publish(session, redis, settings, clock.now())
    if json:
        print_json(done._asdict())
    else:
        print_line(f"{plural(done.published, 'job')} published, {done.dropped:,} no longer wanted")
