"""An organization with a provider and a queue, for tests of the whole way from the queue to the sink."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.stores.redis.client import open_redis
from tests.support import run_on_loop, wait_until

DAY = timedelta(days=1)


_CONTENT: dict[str, dict[str, Any]] = {
    "email": {"emailAddress": "ann@example.com", "subject": "Hello", "html": "<p>Hello</p>"},
    "sms": {"phoneNumber": "+15005550006", "body": "Hello"},
    "push": {"deviceToken": "device-1", "title": "Hello", "body": "How are you?"},
}


class World:
    """One organization's messages on a queue of its own, and what becomes of them. `channel` is whose queue it is."""

    def __init__(self, settings: Settings, redis_url: str, session: Session) -> None:
        self.settings = Settings(
            **{
                **settings.model_dump(),
                "redis_url": redis_url,
                "queue_prefix": f"{{test-{uuid4().hex}}}",
                "allowed_networks": "127.0.0.0/8",
                "send_timeout": timedelta(seconds=3),
            }
        )
        self.session = session
        self.channel = "email"
        self.organization = uuid4()
        self._name = uuid4().hex
        self.said: list[str] = []
        self.reported: list[tuple[str, str, str]] = []

    @property
    def base(self) -> str:
        return f"{self.settings.queue_prefix}:{CHANNELS[self.channel].queue}"

    def provider(self, host: str, port: int, *, priority: int = 0, **config: Any) -> UUID:
        """Add an SMTP server as a provider of the organization."""
        value = {"host": host, "port": port, "from": "Acme <news@acme.test>", **config}
        return self.provider_of("email", "custom_smtp", value, priority=priority)

    def provider_of(self, channel: str, kind: str, config: dict[str, Any], *, priority: int = 0) -> UUID:
        """Add a provider of the organization, of any kind."""
        provider = uuid4()
        self.write(
            "INSERT INTO delivery.provider_configs (id, organization_id, channel, provider_type, config, priority)"
            " VALUES (%(id)s, %(organization)s, %(channel)s, %(kind)s, %(config)s::jsonb, %(priority)s)",
            id=provider,
            channel=channel,
            kind=kind,
            config=json.dumps(config),
            priority=priority,
        )
        return provider

    def point(self, **urls: str) -> None:
        """Let the APIs of providers be at other addresses, by type."""
        self.settings = self.settings.model_copy(update={"provider_urls": {**self.settings.provider_urls, **urls}})

    def contact(self, **columns: Any) -> UUID:
        contact = uuid4()
        columns = {"email": f"{contact.hex}@example.com", **columns}
        names = ", ".join(columns)
        values = ", ".join(f"%({name})s" for name in columns)
        self.write(
            f"INSERT INTO crm.contacts (id, organization_id, {names}) VALUES (%(id)s, %(organization)s, {values})",
            id=contact,
            **columns,
        )
        return contact

    def template(self, **columns: Any) -> UUID:
        template = uuid4()
        columns = {"name": "T", "type": self.channel, **columns}
        names = ", ".join(columns)
        values = ", ".join(f"%({name})s" for name in columns)
        self.write(
            f"INSERT INTO content.templates (id, organization_id, {names}) VALUES (%(id)s, %(organization)s, {values})",
            id=template,
            **columns,
        )
        return template

    def campaign(self, recipients: int) -> UUID:
        job = uuid4()
        self.write(
            "INSERT INTO delivery.delivery_jobs (id, organization_id, channel, recipient_count, idempotency_key,"
            " sent_count, failed_count, status)"
            " VALUES (%(id)s, %(organization)s, %(channel)s, %(recipients)s, %(key)s, 0, 0, 'queued')",
            id=job,
            channel=self.channel,
            recipients=recipients,
            key=str(job),
        )
        return job

    def write(self, query: str, **parameters: Any) -> None:
        self.session.execute(query.encode(), {"organization": self.organization, **parameters})

    def key(self, delivery: str) -> str:
        """Return a delivery id of this test's own: the keys in Redis are by it alone."""
        return f"{delivery}.{self._name}"

    def mark(self, delivery: str) -> str:
        return f"delivery:idem:{self.key(delivery)}"

    def message(self, delivery: str = "d1", **fields: Any) -> dict[str, Any]:
        """Return a message like a campaign's."""
        own = {"deliveryId": self.key(delivery), "organizationId": str(self.organization)}
        given = {**own, **_CONTENT[self.channel], **fields}
        return {name: value for name, value in given.items() if value is not ...}

    def add(self, *messages: dict[str, Any], ids: Sequence[str] = ()) -> None:
        """Put messages on the queue."""
        names = ids or [uuid4().hex + "x" for _ in messages]
        queue = CHANNELS[self.channel].queue
        jobs = [
            QueueJob(queue, name, queue.rpartition(":")[2], each) for name, each in zip(names, messages, strict=True)
        ]
        with closing(open_redis(self.settings)) as redis:
            add_jobs(redis, self.settings.queue_prefix, jobs, int(datetime.now(UTC).timestamp() * 1000))

    def ask(self, *words: Any) -> Any:
        with closing(open_redis(self.settings)) as redis:
            return redis.command(*words)

    def engine(self, **changes: Any) -> WorkerProcess:
        plan = {
            "concurrency": {self.channel: 5},
            "max_age": 2 * DAY,
            "drain_timeout": timedelta(seconds=10),
            "until_empty": True,
        }
        report = self.reported
        return WorkerProcess(
            self.settings,
            DeliveryPlan(**{**plan, **changes}),
            self.said.append,
            lambda what, job, reason: report.append((what, job, reason)),
        )

    def deliver(self, **changes: Any) -> WorkerProcess:
        """Deliver until the queue is empty."""
        engine = self.engine(**changes)
        run_on_loop(asyncio.wait_for(engine.run(), 60))
        return engine

    def deliver_within_limits(self) -> None:
        """Deliver again and again, until a receiver that limits has taken all; nothing may fail meanwhile."""

        def all_are_sent() -> bool:
            self.hurry()
            self.deliver()
            states = set(self.states().values())
            assert states <= {"sent", "deferred"}
            return states == {"sent"}

        wait_until(all_are_sent, "the limit to let all messages through", 120)

    def ledger(self) -> list[Row]:
        return self.session.rows(b"SELECT * FROM mauntic_jobs.deliveries ORDER BY delivery_id")

    def states(self) -> dict[str, str]:
        return {row["delivery_id"].partition(".")[0]: row["state"] for row in self.ledger()}

    def jobs_in(self, name: str) -> list[str]:
        """Return the ids of the queue's jobs in a state; those that wait may be parked in their lanes."""
        if name == "wait":
            parked = self.ask("ZRANGE", f"{self.base}:prioritized", "-inf", "(0", "BYSCORE")
            return [each.decode() for each in (*self.ask("LRANGE", f"{self.base}:wait", 0, -1), *parked)]
        key = f"{self.base}:{name}"
        found = self.ask("LRANGE", key, 0, -1) if name in ("wait", "active") else self.ask("ZRANGE", key, 0, -1)
        return [each.decode() for each in found]

    def job(self, name: str) -> dict[str, str]:
        return {
            key.decode(): value.decode(errors="replace")
            for key, value in self.ask("HGETALL", f"{self.base}:{name}").items()
        }

    def hurry(self) -> None:
        """Let every delayed job, every wait of the ledger, and every limit and pause of a provider be over."""
        for key in self.ask("KEYS", f"{self.base}:adm:*"):
            self.ask("DEL", key.decode())
        for name in self.jobs_in("delayed"):
            self.ask("ZADD", f"{self.base}:delayed", 1, name)
        self.write(
            "UPDATE mauntic_jobs.deliveries SET until = clock_timestamp() - interval '1 second' WHERE until IS NOT NULL"
        )
        self.write("UPDATE mauntic_jobs.provider_pauses SET until = clock_timestamp() - interval '1 second'")


def sent_by_node(world: World, count: int, at: str = "clock_timestamp() AT TIME ZONE 'UTC'") -> None:
    """Leave the events of emails that the Node engine has sent; `at` is SQL for when."""
    world.write(
        "INSERT INTO delivery.delivery_events (job_id, organization_id, contact_id, channel, event_type,"
        " provider_message_id, metadata, created_at) SELECT gen_random_uuid(), %(organization)s, gen_random_uuid(),"
        f" 'email', 'sent', '<' || n || '@node>', '{{}}', {at} FROM generate_series(1, %(count)s) AS n",
        count=count,
    )


@contextmanager
def new_world(settings: Settings, redis_url: str) -> Iterator[World]:
    with connect(settings) as session:
        yield World(settings, redis_url, session)
