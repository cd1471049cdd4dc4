"""Generated histories of segments, contacts and executions, whose passes are compared with an evaluation of everything.

Writers act as the platform's do, and worse: with clocks of their own, in transactions that commit after later ones, in
savepoints, and without a word in `updated_at`.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar
from unittest.mock import patch
from uuid import UUID

import psycopg
from psycopg.types.json import Json

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.job import Context, Row
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.segments import entries, hits
from mauntic_jobs.segments.members import members_statement
from mauntic_jobs.segments.trigger import parse_trigger
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from tests.support import utc

_STEPS = 20
START = utc("2026-10-05T10:00")
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_STAGES, _PLANS = ["lead", "customer"], ["pro", "Pro", "7", None]
_CONDITIONS: list[dict[str, Any]] = [
    {"field": "stage", "operator": "eq", "value": "lead"},
    {"field": "plan", "operator": "eq", "value": "pro"},
    {"field": "plan", "operator": "neq", "value": "pro"},
    {"field": "plan", "operator": "gte", "value": 5},
    {"field": "status", "operator": "neq", "value": "do_not_contact"},
    {"field": "email", "operator": "contains", "value": "A"},
    {"field": "createdAt", "operator": "lt", "value": "2026-10-05"},
    {"field": "plan", "operator": "sounds_like", "value": "pro"},
]
_RULES: list[dict[str, Any]] = [
    {},
    {"reEntry": {"type": "always"}},
    {"reEntry": {"type": "cooldown", "cooldownDays": 1}},
    {"reEntry": {"type": "cooldown", "cooldownDays": 2}, "frequencyCap": {"maxCount": 2, "windowDays": 4}},
    {"reEntry": {"type": "always"}, "frequencyCap": {"maxCount": 1, "windowDays": 1}},
    {"reEntry": {"type": "cooldown"}},
]


def _waited_days(config: dict[str, Any]) -> list[int]:
    """Return after how many days a trigger's rules let a contact in again."""
    days = [config.get("reEntry", {}).get("cooldownDays"), config.get("frequencyCap", {}).get("windowDays")]
    return [each for each in days if each is not None]


class KilledError(Exception):
    """The process was killed before its commit."""


class _LateWriter:
    """A writer whose transaction stays open, and the rows that it has locked."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.locked: set[UUID] = set()

    @property
    def is_open(self) -> bool:
        return self.connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE


class History:
    """One history in an organization of its own; `passes` counts the passes that were compared, `entered` entries."""

    def __init__(self, seed: int, session: Session, writers: list[psycopg.Connection[Any]], settings: Settings) -> None:
        self.passes = self.entered = self.full = 0
        self._chance, self._way = random.Random(seed), random.Random(seed)
        self._session = session
        self._now = START + self._chance.randrange(24) * _HOUR
        self._settings = settings
        self._organization = self._id()
        self._plain, *late = writers
        self._late = [_LateWriter(connection) for connection in late]
        self._contacts: list[UUID] = []
        self._segments: list[UUID] = []
        self._journeys: list[UUID] = []
        self._triggers: list[UUID] = []

    def run(self, steps: int) -> None:
        """Live through a history, comparing each pass."""
        for _ in range(self._chance.randrange(2, 5)):
            self._add_contact(self._plain)
        for _ in range(self._chance.randrange(1, 4)):
            self._add_trigger()
        for _ in range(steps):
            self._chance.choice(self._steps())()
        self._end_late(commit=True)
        self._pass()

    def _id(self) -> UUID:
        return UUID(int=self._chance.getrandbits(128))

    def clean(self) -> None:
        """Remove the history's rows, so that the next one has small tables."""
        own = {"own": self._organization}
        tables = ["crm.contacts", "crm.segments", "journey.journeys", "journey.journey_versions"]
        tables += ["journey.journey_steps", "journey.journey_triggers", "journey.journey_executions"]
        for table in [*tables, "mauntic_jobs.segment_marks"]:
            self._plain.execute(f"DELETE FROM {table} WHERE organization_id = %(own)s", own)
        self._plain.execute("DELETE FROM crm.segment_contacts WHERE segment_id = ANY (%(s)s)", {"s": self._segments})
        self._plain.execute("DELETE FROM mauntic_jobs.outbox")

    def _steps(self) -> list[Callable[[], None]]:
        often: list[Callable[[], None]] = [
            self._write,
            self._write,
            self._write,
            self._pass,
            self._wait,
            self._write_late,
        ]
        seldom = [
            self._edit,
            self._killed_pass,
            self._wait_out,
            self._pass_aside,
            self._wait_back,
            self._end_some,
            self._freeze,
        ]
        return [*often, *often, *seldom]

    # What time and the job do.

    def _wait(self) -> None:
        self._now += self._chance.choice([_HOUR, _HOUR, _HOUR, 2 * _HOUR, 6 * _HOUR, _DAY])

    def _wait_back(self) -> None:
        self._now -= self._chance.choice([timedelta(minutes=3), 5 * _HOUR])

    def _wait_out(self) -> None:
        """Let the wait after an execution run out between two passes."""
        query = "SELECT journey_id, config FROM journey.journey_triggers WHERE organization_id = %s ORDER BY id"
        triggers = self._plain.execute(query, [self._organization]).fetchall()
        waits = [(journey, days) for journey, config in triggers for days in _waited_days(config)]
        free = [contact for contact in self._contacts if not any(contact in each.locked for each in self._late)]
        if waits and free:
            journey, days = self._chance.choice(waits)
            started = naive(self._now - days * _DAY + timedelta(minutes=30))
            self._add_execution(self._plain, journey, self._chance.choice(free), started)
            self._pass()
            self._now += _HOUR
        self._pass()

    def _pass(self) -> None:
        """Run the job as each hour does; what enters must be what an evaluation of everything lets in."""
        with self._session.transaction():
            expected, before = self._expected(), self._executions()
            counters = self._run_job()
            made = {key: found for key, found in self._executions().items() if key not in before}
        assert {(row["journey_id"], row["contact_id"]) for row in made.values()} == expected
        assert len(made) == len(expected) == counters["entered"]
        self.passes += 1
        self.entered += len(made)
        self.full += counters["full"]

    def _killed_pass(self) -> None:
        with suppress(KilledError), self._session.transaction():
            self._run_job()
            raise KilledError

    def _pass_aside(self) -> None:
        """Run what must not move the marks: a rehearsal, or a run for another hour. Both are undone here."""
        before = self._marks()
        with suppress(KilledError), self._session.transaction():
            dry = self._chance.random() < 0.5
            self._run_job(dry_run=dry, window=None if dry else Window.before(self._now - _DAY, Unit.HOUR))
            assert self._marks() == before
            raise KilledError

    def _run_job(self, *, dry_run: bool = False, window: Window | None = None) -> dict[str, int]:
        options = SEGMENT_TRIGGER_EVAL.options(full=self._chance.random() < 0.05)
        context = Context(self._session, options, self._settings, self._now, dry_run, lambda _: None)
        with self._at_size():
            return dict(SEGMENT_TRIGGER_EVAL.run(context, window or Window.before(self._now, Unit.HOUR)).counters)

    @contextmanager
    def _at_size(self) -> Iterator[None]:
        """Have a few contacts evaluated as many are, or as few are."""
        sought, conditions = self._way.choice([0, entries.MAX_SOUGHT]), self._way.choice([1, hits.MIN_CONDITIONS])
        with patch.object(entries, "MAX_SOUGHT", sought), patch.object(hits, "MIN_CONDITIONS", conditions):
            yield

    # An evaluation of everything, one trigger and one contact at a time.

    def _expected(self) -> set[tuple[UUID, UUID]]:
        executions = list(self._executions().values())
        found: set[tuple[UUID, UUID]] = set()
        for trigger in self._session.rows(
            b"SELECT trigger.config, trigger.journey_id, segment.* FROM journey.journey_triggers AS trigger"
            b" JOIN journey.journeys AS journey ON journey.id = trigger.journey_id AND journey.status = 'active'"
            b" JOIN crm.segments AS segment ON segment.id = (trigger.config ->> 'segmentId')::uuid"
            b" WHERE trigger.organization_id = %(own)s AND EXISTS (SELECT FROM journey.journey_versions AS version"
            b" WHERE version.journey_id = journey.id AND version.published_at <= %(now)s)",
            {"own": self._organization, "now": naive(self._now)},
        ):
            with suppress(JobFailedError):
                rules = parse_trigger(trigger["config"])
                statement, parameters = members_statement(trigger, self._settings.segments_compatibility)
                common = {"organization": self._organization, "segment": trigger["id"]}
                members = [row["id"] for row in self._session.rows(statement, common | parameters)]
                found |= {
                    (trigger["journey_id"], contact)
                    for contact in members
                    if self._may_enter(rules.rules(self._now), trigger["journey_id"], contact, executions)
                }
        return found

    @staticmethod
    def _may_enter(rules: dict[str, Any], journey: UUID, contact: UUID, executions: list[Row]) -> bool:
        own = [each for each in executions if (each["journey_id"], each["contact_id"]) == (journey, contact)]
        if any(each["status"] == "active" or each["started_at"] > rules["no_entry_since"] for each in own):
            return False
        return rules["cap"] is None or sum(each["started_at"] > rules["cap_since"] for each in own) < rules["cap"]

    def _executions(self) -> dict[UUID, Row]:
        query = b"SELECT * FROM journey.journey_executions WHERE organization_id = %(own)s"
        return {row["id"]: row for row in self._session.rows(query, {"own": self._organization})}

    def _marks(self) -> list[Row]:
        return self._session.rows(b"SELECT * FROM mauntic_jobs.segment_marks ORDER BY trigger_id")

    # What the platform's writers do.

    def _write(self) -> None:
        self._write_by(self._plain, set())

    def _write_late(self) -> None:
        """Write in a transaction that stays open, perhaps in a savepoint: what it wrote shows later, or never."""
        writer = self._chance.choice(self._late)
        if not writer.is_open:
            writer.connection.execute("BEGIN")
        if self._chance.random() < 0.4:
            writer.connection.execute("SAVEPOINT nested")
        self._write_by(writer.connection, writer.locked)

    def _end_some(self) -> None:
        self._end_late(commit=self._chance.random() < 0.8)

    def _end_late(self, *, commit: bool) -> None:
        for writer in self._late:
            if writer.is_open and (commit or self._chance.random() < 0.5):
                writer.connection.execute("COMMIT" if commit else "ROLLBACK")
                writer.locked.clear()

    def _write_by(self, connection: psycopg.Connection[Any], locked: set[UUID]) -> None:
        others = set().union(*(writer.locked for writer in self._late)) - locked
        free = [contact for contact in self._contacts if contact not in others]
        if not free or self._chance.random() < 0.2:
            self._add_contact(connection)
            return
        contact = self._chance.choice(free)
        if connection is not self._plain:
            locked.add(contact)
        self._chance.choice(
            [
                self._change_contact,
                self._change_contact,
                self._remove_contact,
                self._list,
                self._end,
                self._end,
                self._past,
            ]
        )(connection, contact)

    def _times(self) -> datetime:
        """Return a time as writers' clocks give it: the past, the present or the future."""
        return naive(self._now + self._chance.choice([-30 * _DAY, -_HOUR, timedelta(), _HOUR, 30 * _DAY]))

    def _add_contact(self, connection: psycopg.Connection[Any]) -> None:
        contact = self._id()
        values = self._values() | {"id": contact, "email": self._chance.choice(["ann@example.com", "bob@example.com"])}
        connection.execute(
            "INSERT INTO crm.contacts (id, organization_id, email, stage, custom_fields, created_at, updated_at)"
            " VALUES (%(id)s, %(own)s, %(email)s, %(stage)s, %(custom)s, %(at)s, %(at)s)",
            values,
        )
        if connection is self._plain:
            self._contacts.append(contact)

    def _values(self) -> dict[str, Any]:
        plan = self._chance.choice(_PLANS)
        return {
            "own": self._organization,
            "stage": self._chance.choice(_STAGES),
            "custom": Json({} if plan is None else {"plan": plan}),
            "at": self._times(),
            "status": self._chance.choice(["active", "do_not_contact"]),
        }

    def _change_contact(self, connection: psycopg.Connection[Any], contact: UUID) -> None:
        change = self._chance.choice(
            [
                "stage = %(stage)s",
                "custom_fields = %(custom)s, updated_at = %(at)s",
                "status = %(status)s, updated_at = %(at)s",
                "created_at = %(at)s",
                "organization_id = CASE organization_id WHEN %(own)s THEN gen_random_uuid() ELSE %(own)s END",
            ]
        )
        connection.execute(f"UPDATE crm.contacts SET {change} WHERE id = %(id)s", self._values() | {"id": contact})

    def _remove_contact(self, connection: psycopg.Connection[Any], contact: UUID) -> None:
        if self._chance.random() < 0.3:
            connection.execute("DELETE FROM crm.contacts WHERE id = %(id)s", {"id": contact})

    def _list(self, connection: psycopg.Connection[Any], contact: UUID) -> None:
        """Add a contact to a segment's list, or take it out; static segments have one."""
        row = {"segment": self._chance.choice(self._segments), "contact": contact, "at": self._times()}
        if self._chance.random() < 0.7:
            connection.execute(
                "INSERT INTO crm.segment_contacts (segment_id, contact_id, added_at)"
                " VALUES (%(segment)s, %(contact)s, %(at)s)",
                row,
            )
        else:
            connection.execute(
                "DELETE FROM crm.segment_contacts WHERE segment_id = %(segment)s AND contact_id = %(contact)s", row
            )

    def _end(self, connection: psycopg.Connection[Any], contact: UUID) -> None:
        """End an execution, with or without a time, or change when it started."""
        change = self._chance.choice(["", ", completed_at = %(at)s", ", started_at = %(at)s - interval '2 days'"])
        connection.execute(
            f"UPDATE journey.journey_executions SET status = 'completed'{change}"
            " WHERE contact_id = %(contact)s AND organization_id = %(own)s",
            {"contact": contact, "own": self._organization, "at": naive(self._now)},
        )

    def _past(self, connection: psycopg.Connection[Any], contact: UUID) -> None:
        """Add an execution that has ended."""
        self._add_execution(connection, self._chance.choice(self._journeys), contact, self._times())

    def _add_execution(
        self, connection: psycopg.Connection[Any], journey: UUID, contact: UUID, started: datetime
    ) -> None:
        connection.execute(
            "INSERT INTO journey.journey_executions"
            " (journey_id, journey_version_id, organization_id, contact_id, status, started_at)"
            " VALUES (%(journey)s, gen_random_uuid(), %(own)s, %(contact)s, 'failed', %(started)s)",
            {"journey": journey, "own": self._organization, "contact": contact, "started": started},
        )

    # What the platform's users do.

    def _edit(self) -> None:
        edits = [self._add_trigger, self._edit_segment, self._edit_trigger, self._publish, self._set_status]
        self._chance.choice([*edits, self._edit_segment, self._switch_reading])()

    def _criteria(self) -> Json:
        conditions = self._chance.sample(_CONDITIONS, self._chance.choice([0, 1, 1, 1, 2]))
        return Json({"operator": self._chance.choice(["and", "or"]), "conditions": conditions})

    def _add_trigger(self) -> None:
        """Add a trigger, with a journey and a segment that may be those of others."""
        if not self._segments or self._chance.random() < 0.7:
            self._segments.append(segment := self._id())
            self._plain.execute(
                "INSERT INTO crm.segments (id, organization_id, name, type, filter_criteria)"
                " VALUES (%(id)s, %(own)s, 's', %(type)s, %(criteria)s)",
                {"id": segment, "own": self._organization, "criteria": self._criteria()}
                | {"type": self._chance.choice(["dynamic", "dynamic", "static"])},
            )
        if not self._journeys or self._chance.random() < 0.7:
            self._journeys.append(journey := self._id())
            self._plain.execute(
                "INSERT INTO journey.journeys (id, organization_id, name, status)"
                " VALUES (%(id)s, %(own)s, 'j', 'active')",
                {"id": journey, "own": self._organization},
            )
            if self._chance.random() < 0.9:
                self._publish()
        self._triggers.append(trigger := self._id())
        self._plain.execute(
            "INSERT INTO journey.journey_triggers (id, journey_id, organization_id, type, config)"
            " VALUES (%(id)s, %(journey)s, %(own)s, 'segment', %(config)s)",
            {"id": trigger, "own": self._organization, "journey": self._chance.choice(self._journeys)}
            | {"config": self._config()},
        )

    def _config(self) -> Json:
        segment = self._chance.choice(self._segments)
        return Json({"type": "segment", "segmentId": str(segment), **self._chance.choice(_RULES)})

    def _edit_segment(self) -> None:
        self._plain.execute(
            "UPDATE crm.segments SET filter_criteria = %(criteria)s, type = %(type)s WHERE id = %(id)s",
            {"id": self._chance.choice(self._segments), "criteria": self._criteria()}
            | {"type": self._chance.choice(["dynamic", "dynamic", "dynamic", "static"])},
        )

    def _edit_trigger(self) -> None:
        self._plain.execute(
            "UPDATE journey.journey_triggers SET config = %(config)s WHERE id = %(id)s",
            {"id": self._chance.choice(self._triggers), "config": self._config()},
        )

    def _publish(self) -> None:
        """Publish a version of a journey, perhaps from a later time on."""
        version, journey = self._id(), self._journeys[-1]
        self._plain.execute(
            "INSERT INTO journey.journey_versions"
            " (id, journey_id, organization_id, version_number, definition, published_at)"
            " SELECT %(id)s, %(journey)s, %(own)s, count(*) + 1, '{}', %(at)s FROM journey.journey_versions"
            " WHERE journey_id = %(journey)s",
            {"id": version, "journey": journey, "own": self._organization, "at": self._times()},
        )
        self._plain.execute(
            "INSERT INTO journey.journey_steps (journey_version_id, organization_id, type, config)"
            " VALUES (%(version)s, %(own)s, 'action', '{}')",
            {"version": version, "own": self._organization},
        )

    def _set_status(self) -> None:
        self._plain.execute(
            "UPDATE journey.journeys SET status = %(status)s WHERE id = %(id)s",
            {"id": self._chance.choice(self._journeys), "status": self._chance.choice(["active", "active", "paused"])},
        )

    def _switch_reading(self) -> None:
        reading = self._chance.choice(list(SegmentReading))
        self._settings = Settings(**{**self._settings.model_dump(), "segments_compatibility": reading})

    def _freeze(self) -> None:
        if self._chance.random() < 0.1:
            self._plain.execute("VACUUM (FREEZE) crm.contacts, journey.journey_executions, crm.segment_contacts")


_HistoryT = TypeVar("_HistoryT", bound=History)


def played(kind: type[_HistoryT], settings: Settings, count: int) -> Iterator[_HistoryT]:
    """Yield generated histories after twenty steps each: `count`, or as many as SEGMENT_HISTORIES says.

    SEGMENT_FIRST_HISTORY is the number of the first one; a failure names that of its history.
    """
    assert settings.database_url
    url = settings.database_url.get_secret_value()
    first = int(os.environ.get("SEGMENT_FIRST_HISTORY", "0"))
    with ExitStack() as stack:
        session = stack.enter_context(connect(settings))
        writers = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(3)]
        writers[0].execute("SET lock_timeout = '20s'")
        for writer in writers:  # one that is to be serializable would have to try again
            writer.execute("SET default_transaction_isolation = 'read committed'")
        for seed in range(first, first + int(os.environ.get("SEGMENT_HISTORIES", count))):
            history = kind(seed, session, writers, settings)
            try:
                history.run(_STEPS)
            except AssertionError as error:
                error.add_note(f"history {seed}")
                raise
            history.clean()
            yield history
            if seed % 100 == 99:
                writers[0].execute("VACUUM")
