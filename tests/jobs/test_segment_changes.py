"""`segment-trigger-eval` evaluates what changed since the last run, and everything where that would not do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from psycopg.types.json import Json

from mauntic_jobs.errors import StatementTimeoutError
from mauntic_jobs.job import Context, JobResult
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.segments import changes, compiler
from mauntic_jobs.segments.criteria import Operator
from mauntic_jobs.segments.entries import make_tables
from mauntic_jobs.segments.hits import hits_statements
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Unit, Window
from tests.jobs.segment_rows import ACME, NOW, Journey, Platform
from tests.support import organization

_LEAD = {"field": "stage", "operator": "eq", "value": "lead"}
_HOUR = timedelta(hours=1)


@dataclass
class _Clock:
    """Runs the job in a transaction of its own, each time an hour later."""

    session: Session
    settings: Settings
    now: datetime = NOW
    warnings: list[str] = field(default_factory=list)

    def run(self, after: timedelta = _HOUR, window: Window | None = None, **options: Any) -> JobResult:
        self.now += after
        chosen = SEGMENT_TRIGGER_EVAL.options(**options)
        context = Context(self.session, chosen, self.settings, self.now, False, self.warnings.append)
        with self.session.transaction():
            return SEGMENT_TRIGGER_EVAL.run(context, window or Window.before(self.now, Unit.HOUR))

    def full(self, **arguments: Any) -> int:
        return self.run(**arguments).counters["full"]


@pytest.fixture
def clock(session: Session, settings: Settings) -> _Clock:
    return _Clock(session, settings)


@pytest.fixture
def platform(session: Session) -> Platform:
    return Platform(session)


@pytest.fixture
def journey(platform: Platform) -> Journey:
    """A journey for leads, of whom there is one."""
    platform.contact(stage="lead")
    return platform.journey(platform.segment(conditions=[_LEAD]))


def _execute(statement: str) -> Callable[[Platform, Journey], None]:
    return lambda platform, _: _ignore(platform.session.execute(statement.encode()))


def _ignore(_: object) -> None:
    pass


_MARKS = "UPDATE mauntic_jobs.segment_marks SET "
_CHANGES: dict[str, Callable[[Platform, Journey], None]] = {
    "criteria": _execute("UPDATE crm.segments SET filter_criteria = '{}'"),
    "type": _execute("UPDATE crm.segments SET type = 'static'"),
    "rules": _execute('UPDATE journey.journey_triggers SET config = config || \'{"reEntry": {"type": "always"}}\''),
    "version": lambda _, journey: _ignore(journey.add_step(journey.publish(2, NOW), "action")),
    "restored in another database": _execute(_MARKS + "store = '7'"),
    "restored in an older cluster": _execute(_MARKS + "horizon = '999999999999'"),
    "failed last": _execute("DELETE FROM mauntic_jobs.segment_marks"),
    "another table by its name": _execute(
        "ALTER TABLE crm.contacts RENAME TO old_contacts; CREATE TABLE crm.contacts (LIKE crm.old_contacts);"
        "INSERT INTO crm.contacts SELECT * FROM crm.old_contacts"
    ),
}


@pytest.mark.parametrize("what", _CHANGES)
def test_all_contacts_are_evaluated_where_changes_are_not_all(
    clock: _Clock, platform: Platform, journey: Journey, what: str
) -> None:
    assert [clock.full(), clock.full()] == [1, 0]
    _CHANGES[what](platform, journey)
    assert [clock.full(), clock.full()] == [1, 0]


def test_all_contacts_are_evaluated_when_asked_and_once_a_day(clock: _Clock, journey: Journey) -> None:
    assert clock.full() == 1
    hours = [clock.full() for _ in range(48)]
    assert hours.count(1) == 2
    assert hours.index(1) == 47 - hours[::-1].index(1) - 24
    assert [clock.full(full=True), clock.full()] == [1, 0]
    assert len(journey.platform.executions(journey.id)) == 1


@pytest.mark.usefixtures("journey")
def test_a_clock_that_went_back_is_not_trusted(clock: _Clock) -> None:
    assert [clock.full(), clock.full(after=-_HOUR), clock.full()] == [1, 1, 0]


@pytest.mark.usefixtures("journey")
def test_criteria_that_depend_on_time_are_evaluated_for_all_each_time(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "TIMELESS", compiler.TIMELESS - {Operator.EQ})
    assert [clock.full(), clock.full(), clock.full()] == [1, 1, 1]


def test_another_window_and_other_triggers_leave_a_mark_as_it_is(
    clock: _Clock, platform: Platform, journey: Journey
) -> None:
    other = platform.journey(platform.segment(conditions=[_LEAD]))
    assert clock.full() == 2
    late = platform.contact(stage="lead")
    assert clock.full(trigger=[other.trigger]) == 0
    assert clock.full(window=Window.before(NOW - timedelta(days=3), Unit.HOUR), trigger=[other.trigger]) == 1
    result = clock.run()
    assert (result.counters["full"], result.counters["entered"]) == (0, 1)
    assert late in [row["contact_id"] for row in platform.executions(journey.id)]


def test_marks_of_triggers_that_are_gone_go_with_them(clock: _Clock, platform: Platform, journey: Journey) -> None:
    other = platform.journey(platform.segment(conditions=[_LEAD]))
    clock.run()
    platform.session.execute(b"DELETE FROM journey.journey_triggers WHERE id = %(id)s", {"id": journey.trigger})
    clock.run()
    assert platform.session.row(b"SELECT trigger_id FROM mauntic_jobs.segment_marks") == {"trigger_id": other.trigger}


def test_a_trigger_that_fails_is_evaluated_for_all_once_it_can_be(
    clock: _Clock, platform: Platform, journey: Journey
) -> None:
    good = platform.journey(platform.segment(conditions=[_LEAD]))
    assert clock.full() == 2
    platform.session.execute(
        b"""UPDATE journey.journey_triggers SET config = config || '{"reEntry": 7}' WHERE id = %(id)s""",
        {"id": journey.trigger},
    )
    late = platform.contact(stage="lead")
    result = clock.run()
    assert (result.counters["failed"], result.counters["full"], result.counters["entered"]) == (1, 0, 1)
    platform.session.execute(b"UPDATE journey.journey_triggers SET config = config - 'reEntry'")
    result = clock.run()
    assert (result.counters["failed"], result.counters["full"], result.counters["entered"]) == (0, 1, 1)
    for each in (good, journey):
        assert late in [row["contact_id"] for row in platform.executions(each.id)]


def test_one_segment_that_takes_too_long_leaves_the_others_of_its_organization(
    clock: _Clock, platform: Platform
) -> None:
    platform.session.execute(
        b"CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql STABLE AS"
        b" 'BEGIN PERFORM pg_sleep(60); RETURN $1; END';"
        b"ALTER TABLE crm.contacts RENAME TO all_contacts;"
        b"CREATE VIEW crm.contacts AS SELECT id, organization_id, stage, slow(first_name) AS first_name"
        b" FROM crm.all_contacts"
    )
    platform.insert("crm.all_contacts", organization_id=ACME, stage="lead")
    slow = platform.journey(platform.segment(conditions=[{"field": "firstName", "operator": "is_set"}]))
    good = [platform.journey(platform.segment(conditions=[_LEAD])) for _ in range(2)]
    result = clock.run(time_limit="0.3s")
    assert (result.counters["failed"], result.counters["entered"]) == (1, 2)
    assert str(slow.trigger) in result.problems[0]
    assert [len(platform.executions(each.id)) for each in (slow, *good)] == [0, 1, 1]


@pytest.mark.usefixtures("journey")
def test_changes_that_are_not_found_in_time_are_made_up_for_by_evaluating_all(
    clock: _Clock, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.run()
    platform.contact(stage="lead")

    def too_slow(*_: Any) -> None:
        raise StatementTimeoutError("It took too long.")

    with monkeypatch.context() as patched:
        patched.setattr(changes, "find_changed", too_slow)
        result = clock.run()
    assert (result.counters["full"], result.counters["entered"]) == (1, 1)
    assert "not found in time" in clock.warnings[0]
    assert clock.full() == 0


def test_two_triggers_of_a_journey_let_a_contact_in_once(clock: _Clock, platform: Platform, journey: Journey) -> None:
    segment = platform.segment(conditions=[_LEAD])
    config = {"type": "segment", "segmentId": str(segment)}
    platform.insert(
        "journey.journey_triggers", journey_id=journey.id, organization_id=ACME, type="segment", config=config
    )
    result = clock.run(time_limit="20d")  # for both that is more than Postgres takes
    assert (result.counters["triggers"], result.counters["entered"]) == (2, 1)
    assert platform.session.row(b"SELECT count(*) AS jobs FROM mauntic_jobs.outbox") == {"jobs": 1}


@pytest.mark.usefixtures("journey")
def test_the_count_of_a_segment_is_that_of_its_last_evaluation_for_all(clock: _Clock, platform: Platform) -> None:
    counts = []
    for full in (False, False, True):
        clock.run(full=full)
        counts.append(platform.session.row(b"SELECT contact_count FROM crm.segments")["contact_count"])
        platform.contact(stage="lead")
    assert counts == [1, 1, 3]


def test_the_locks_of_a_run_do_not_grow_with_the_organizations(clock: _Clock, platform: Platform) -> None:
    """A server has some thousands of locks, and a transaction holds one on each table that it made or dropped."""
    held = []
    for count in (1, 9):
        for number in range(count):
            owner = organization(100 * count + number)
            platform.contact(owner)
            journey = platform.journey(platform.segment(owner), owner)
            journey.add_execution(platform.contact(owner), "completed", NOW)
        for full in (True, False):
            clock.now += _HOUR
            with platform.session.transaction():
                options = SEGMENT_TRIGGER_EVAL.options(full=full)
                context = Context(platform.session, options, clock.settings, clock.now, False, print)
                SEGMENT_TRIGGER_EVAL.run(context, Window.before(clock.now, Unit.HOUR))
                query = b"SELECT count(*) AS locks FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
                held.append(platform.session.row(query)["locks"])
    assert held[2:] == held[:2]


def test_contacts_are_read_once_for_all_segments(direct_settings: Settings) -> None:
    criteria = {"conditions": [_LEAD, {"field": "plan", "operator": "gt", "value": 7}]}
    ((statement, parameters),) = _hits([criteria] * 100)
    # The value that is compared is made of the contact's once, not a hundred times, and so is the comparison.
    assert (statement.count(b"input_is_valid"), statement.count(b" > ")) == (1, 1)
    with connect(direct_settings) as session, session.transaction():
        make_tables(session)
        assert sum("contacts" in line for line in _plan(session, statement, parameters)) == 1


def test_contacts_that_changed_are_read_once_for_all_organizations(clock: _Clock, platform: Platform) -> None:
    asked = [{"field": field, "operator": "is_set"} for field in ("plan", "firstName", "stage")]
    for owner in (organization(1), organization(2)):
        platform.contact(owner, first_name="Ann", custom_fields=Json({"plan": "pro"}))
        platform.journey(platform.segment(owner, conditions=asked), owner)
    assert clock.run().counters["entered"] == 2
    for owner in (organization(1), organization(2)):
        platform.contact(owner, first_name="Bob", custom_fields=Json({"plan": "pro"}))
    with patch.object(Session, "execute", autospec=True, side_effect=Session.execute) as executed:
        assert clock.run().counters["entered"] == 2
    (reading,) = [text for call in executed.call_args_list if b"crm.contacts" in (text := call.args[1])]
    assert b"CREATE TEMPORARY TABLE mauntic_jobs_changed" in reading


def test_conditions_on_one_field_are_evaluated_once_for_each_of_its_values(
    direct_settings: Settings, platform: Platform
) -> None:
    for number in range(600):
        platform.contact(custom_fields=Json({"plan": number % 3}), lead_score=number % 2)
    plans = [{"conditions": [{"field": "plan", "operator": "gt", "value": n}]} for n in range(-3, 3)]
    scores = [{"conditions": [{"field": "leadScore", "operator": "gt", "value": n}]} for n in range(-3, 3)]
    fill, analyze, (statement, parameters) = _hits([*plans, *scores])
    with connect(direct_settings) as session, session.transaction():
        make_tables(session)
        for filling, own in (fill, analyze):
            session.execute(filling, own | {"organization": ACME})
        lines = [line.strip() for line in _plan(session, statement, parameters)]
    # Older servers name a key as often as it is used.
    keys = [set(line.removeprefix("Cache Key: ").split(", ")) for line in lines if line.startswith("Cache Key: ")]
    assert sorted(keys, key=str) == [{"value.lead_score"}, {"value.text_0"}]


def _hits(criteria: list[Any]) -> list[Any]:
    segments = [{"type": "dynamic", "filter_criteria": each} for each in criteria]
    return hits_statements(segments, SegmentReading.STRICT, changed=False)


def _plan(session: Session, statement: bytes, parameters: Any) -> list[str]:
    rows = session.rows(b"EXPLAIN " + statement, parameters | {"organization": ACME})
    return [row["QUERY PLAN"] for row in rows]
