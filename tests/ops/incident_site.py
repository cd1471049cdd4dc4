"""An installation with mail to deliver and somebody on call, for incidents from their beginning to their end."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner, Result

from mauntic_jobs.delivery.sending.providers.config import encrypt
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.alerts.receivers import Receiver, receiver
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World, new_world
from tests.ops.dead_letters.failing import EMAIL
from tests.ops.rig import KEY, Rig, sound
from tests.support import APP, build_program, organization

# Longer than anything may be ambiguous, deferred or left on a queue.
LONG_AGO = timedelta(minutes=31)
_USER, _PASSWORD = "news", "its-password"


class Site:
    """An installation: `rig` is what the doctor looks at, `world` its messages, `sink` its mail server.

    `inbox` is where its alerts go. `watcher` are the variables of the host that looks for them, which are those of the
    one host that there is unless an incident parts them. `ahead` is how far the clock of the other one is wrong.
    """

    def __init__(self, rig: Rig, world: World, sink: Sink, inbox: Receiver) -> None:
        self.rig, self.world, self.sink, self.inbox = rig, world, sink, inbox
        rig.variables |= {
            "MAUNTIC_ALERTS": json.dumps([{"type": "webhook", "url": inbox.url, "secret": "a secret"}]),
            "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8",
            "MAUNTIC_RETRY_DELAY": "0s",
            "COLUMNS": "200",
        }
        self.watcher = rig.variables
        self.ahead = timedelta()
        prefix = {"queue_prefix": rig.variables["MAUNTIC_QUEUE_PREFIX"]}
        world.settings = world.settings.model_copy(update=prefix)
        world.organization = organization(1)
        # For a person who deals with dead letters.
        rig.execute("GRANT SELECT, INSERT ON mauntic_jobs.discarded TO {role}")
        rig.execute("GRANT SELECT ON mauntic_jobs.pruned TO {role}")
        self.provide()

    @property
    def superuser(self) -> str:
        """The database's address for one who may do everything."""
        url = self.world.settings.database_url
        assert url
        return url.get_secret_value()

    def provide(self, **config: Any) -> None:
        """Let the organization have one provider: the mail server, with these keys changed."""
        login = {"user": _USER, "pass": _PASSWORD}
        server = {"host": self.sink.host, "port": self.sink.port, "auth": login, "from": "Acme <news@acme.test>"}
        self.rig.execute("DELETE FROM delivery.provider_configs")
        self.rig.provider("custom_smtp", encrypt({**server, **config}, KEY))

    def run(self, line: str, *, watching: bool = False, **changes: str) -> Result:
        """Run a command as a host of the installation does, in this process."""
        variables = {**(self.watcher if watching else self.rig.variables), **changes}
        with nullcontext() if watching else self._own_clock():
            return CliRunner().invoke(APP, shlex.split(line), prog_name="mauntic-jobs", env=variables)

    def examine(self) -> tuple[int, Row]:
        """Return the exit code of the doctor, and its report."""
        with self._own_clock():
            return self.rig.examine()

    def _own_clock(self) -> AbstractContextManager[object]:
        now, ahead = clock.now, self.ahead
        return patch.object(clock, "now", lambda: now() + ahead)

    def deliver(self) -> None:
        """Deliver what is on the queue, and what waits for its time."""
        own = {
            "encryption_key": self.rig.variables.get("ENCRYPTION_KEY"),
            "allowed_networks": self.rig.variables.get("MAUNTIC_ALLOWED_NETWORKS", ""),
        }
        self.world.settings = Settings(**{**self.world.settings.model_dump(), **own})
        self.world.hurry()
        self.world.deliver()

    def wait_on_the_queue(self, messages: int, age: timedelta) -> None:
        """Put messages on the queue, added so long ago."""
        added = round((clock.now() - age).timestamp() * 1000)
        jobs = [QueueJob(EMAIL, f"m{n}", "send-email", self.world.message(f"d{n}")) for n in range(messages)]
        with closing(open_redis(self.world.settings)) as redis:
            add_jobs(redis, self.world.settings.queue_prefix, jobs, added)

    def told(self) -> list[Row]:
        """Return what has come to whoever is on call since the last time."""
        return [request.json for request in self.inbox.received()]

    def open(self) -> list[Row]:
        return self.rig.session.rows(b"SELECT fingerprint FROM mauntic_jobs.alerts WHERE closed_at IS NULL")

    def age(self) -> None:
        """Let half an hour pass for the deliveries."""
        self.rig.execute(
            "UPDATE mauntic_jobs.deliveries SET created_at = created_at - %(by)s, updated_at = updated_at - %(by)s",
            by=LONG_AGO,
        )

    def overdue(self, job: str = "aggregate-hourly") -> None:
        """Let a job have been scheduled three hours ago, and not been run since."""
        self.rig.execute(
            "INSERT INTO mauntic_jobs.schedules (job, cron, settled) VALUES (%(job)s, '0 * * * *', %(at)s)",
            job=job,
            at=clock.now() - timedelta(hours=3),
        )


@contextmanager
def standing_site(settings: Settings, redis_url: str, directory: Path) -> Iterator[Site]:
    with (
        sound(settings, redis_url, directory) as rig,
        new_world(settings, redis_url) as world,
        running_sink(directory, login=(_USER, _PASSWORD)) as sink,
        receiver() as inbox,
    ):
        yield Site(rig, world, sink, inbox)


def command_in(text: str) -> str | None:
    """Return the first command that a sentence names, if it exists and has the options that it is given."""
    named = re.search(r"mauntic-jobs ([^`]+)", text)
    if named is None:
        return None
    node: Any = build_program()
    words = shlex.split(named[1])
    while words and words[0] in getattr(node, "commands", {}):
        node = node.commands[words.pop(0)]
    options = {name for parameter in node.params for name in parameter.opts}
    known = not hasattr(node, "commands") and {word for word in words if word.startswith("--")} <= options
    return named[1] if known else None
