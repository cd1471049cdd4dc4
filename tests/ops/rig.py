"""A whole installation that the doctor finds nothing wrong with, to be spoiled one fault at a time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis
from typer.testing import CliRunner

from mauntic_jobs.delivery.sending.providers.config import encrypt
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.doctor.checks.grants import DELIVERING, RUNNING_JOBS
from mauntic_jobs.scheduler.exports.crontab import crontab
from mauntic_jobs.scheduler.exports.fly import fly
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.support import APP, organization, role

KEY = "00112233445566778899aabbccddeeff" * 2
SENDGRID = {"apiKey": "hunter2"}
_MORE = "GRANT SELECT ON mauntic_jobs.migrations, mauntic_jobs.duplicates TO {role}"


@dataclass
class Rig:
    """The parts of an installation, and what the doctor says of it.

    `session` is a superuser's; `role` is the one that the installation uses. `variables` and `arguments` are the
    doctor's.
    """

    session: Session
    role: str
    redis: Any
    directory: Path
    variables: dict[str, str]
    arguments: list[str]

    @property
    def base(self) -> str:
        return f"{self.variables['MAUNTIC_QUEUE_PREFIX']}:analytics:aggregate-hourly"

    def execute(self, query: str, **parameters: Any) -> None:
        self.session.execute(query.format(role=self.role).encode(), parameters)

    def provider(self, kind: str, config: Any, channel: str = "email") -> None:
        self.session.execute(
            b"INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)"
            b" VALUES (%(owner)s, %(channel)s, %(kind)s, %(config)s::jsonb)",
            {"owner": organization(1), "channel": channel, "kind": kind, "config": json.dumps(config)},
        )

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.directory / file).read_text()
        assert old in text
        (self.directory / file).write_text(text.replace(old, new))

    def examine(self) -> tuple[int, dict[str, Any]]:
        """Return the exit code and what was printed."""
        done = CliRunner().invoke(APP, ["doctor", "--json", *self.arguments], env=self.variables)
        assert done.stderr == ""
        return done.exit_code, json.loads(done.stdout)


def grants(database: str) -> list[str]:
    given = [
        f"GRANT {each.privileges} ON {each.kind} {each.names.replace('platform', database)} TO {{role}}"
        for each in (*RUNNING_JOBS, *DELIVERING)
    ]
    return [*given, _MORE]


@contextmanager
def sound(settings: Settings, redis_url: str, directory: Path) -> Iterator[Rig]:
    """Yield an installation without a fault."""
    assert settings.database_url
    database = settings.database_url.get_secret_value().rpartition("/")[2]
    for name, text in {**fly(list(JOBS.values())), "crontab": crontab(list(JOBS.values()))}.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    with role(settings, *grants(database)) as own, connect(settings) as session, Redis.from_url(redis_url) as redis:
        assert own.database_url
        prefix = f"{{test-{uuid4().hex}}}"
        variables = {
            "DATABASE_URL": own.database_url.get_secret_value(),
            "REDIS_URL": redis_url,
            "ENCRYPTION_KEY": KEY,
            "MAUNTIC_QUEUE_PREFIX": prefix,
            "MAUNTIC_ALERTS": '[{"type": "slack", "url": "https://hooks.example.com/x"}]',
        }
        arguments = ["--crontab", str(directory / "crontab"), "--fly", str(directory / "fly")]
        rig = Rig(session, f"role_of_{database}", redis, directory, variables, arguments)
        rig.redis.hset(f"{rig.base}:meta", "version", "bullmq:6")
        rig.provider("sendgrid", encrypt(SENDGRID, KEY))
        yield rig
