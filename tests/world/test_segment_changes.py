"""Changes of contacts are evaluated once, however and whenever their writers commit."""

from contextlib import ExitStack
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg

from mauntic_jobs.job import Context
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.segments.marks import latest_full_time
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from tests.jobs.segment_rows import ACME, NOW, Platform
from tests.world.corpus import Case, each_case

_ORDERS = ("begin", "commit", "rollback", "savepoint", "release")


class _Scene:
    """A segment of leads, contacts that are none yet, and two writers."""

    def __init__(self, session: Session, writers: list[psycopg.Connection[Any]], settings: Settings) -> None:
        self._session, self._settings = session, settings
        # All contacts are evaluated once a day; this is just after it.
        self._now = latest_full_time(ACME, naive(NOW)).replace(tzinfo=UTC) + timedelta(minutes=1)
        self._writer, self._other = writers
        platform = Platform(session)
        segment = platform.segment(conditions=[{"field": "stage", "operator": "eq", "value": "lead"}])
        platform.journey(segment)
        self._contacts = [platform.contact() for _ in range(10)]
        self.entered: list[int] = []

    def do(self, step: str) -> None:
        word, _, clock = step.partition(" ")
        if word == "pass":
            self._pass()
        elif word == "vacuum":
            self._other.execute("VACUUM (FREEZE) crm.contacts")
        elif word in _ORDERS:
            nested = " nested" if word in ("savepoint", "release") else ""
            self._writer.execute(f"{word} {nested}".encode())
        elif word == "add":
            self._write(self._writer, uuid4(), "INSERT INTO crm.contacts (id, organization_id, stage)", clock)
        else:
            writer = {"change": self._writer, "other": self._other}[word]
            self._write(writer, self._contacts.pop(), "", clock)

    def _write(self, writer: psycopg.Connection[Any], contact: UUID, insert: str, clock: str) -> None:
        if insert:
            writer.execute(f"{insert} VALUES (%s, %s, 'lead')".encode(), [contact, ACME])
        elif clock:
            at = naive(self._now) + timedelta(hours=int(clock.removesuffix("h")))
            writer.execute("UPDATE crm.contacts SET stage = 'lead', updated_at = %s WHERE id = %s", [at, contact])
        else:
            writer.execute("UPDATE crm.contacts SET stage = 'lead' WHERE id = %s", [contact])

    def _pass(self) -> None:
        options = SEGMENT_TRIGGER_EVAL.options()
        context = Context(self._session, options, self._settings, self._now, dry_run=False, warn=print)
        with self._session.transaction():
            counters = SEGMENT_TRIGGER_EVAL.run(context, Window.before(self._now, Unit.HOUR)).counters
        assert counters["full"] == (not self.entered)  # the first, and no other
        self.entered.append(counters["entered"])
        self._now += timedelta(hours=1)


@each_case("segment_changes")
def test_a_change_is_evaluated_once(direct_settings: Settings, case: Case) -> None:
    assert direct_settings.database_url
    url = direct_settings.database_url.get_secret_value()
    with ExitStack() as stack:
        session = stack.enter_context(connect(direct_settings))
        writers = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(2)]
        scene = _Scene(session, writers, direct_settings)
        for step in case.input:
            scene.do(step)
        assert scene.entered == case.answer
