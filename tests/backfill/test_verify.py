"""Recorded figures beside the raw events: what differs is found, told apart and repaired, and nothing else is."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.backfill.coverage import buckets
from mauntic_jobs.backfill.verify import Verification, VerifiedBucket, comparison_of, verify
from mauntic_jobs.errors import StatementTimeoutError, UsageError
from mauntic_jobs.job import BucketFigures, Draw
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Window, naive
from tests.support import Event, add_events, contact, day, organization, request, stored_rollups, utc

HOURLY, REPORTS, MONTHLY = "aggregate-hourly", "generate-daily-reports", "monthly-usage-summary"
_TABLES = {HOURLY: "event_aggregates", REPORTS: "campaign_daily_stats", MONTHLY: "event_aggregates"}
_NOW = utc("2026-11-20T10:00")
_ORGANIZATIONS, _TYPES, _DAYS = 200, 40, 10
_FIRST = utc("2026-09-01T00:00")
_ALL = Window(_FIRST, _FIRST + timedelta(days=_DAYS))
# One event, and one row that says so, for each organization, type and day.
_FILL = b"""
INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, created_at)
SELECT owner, owner, 'type_' || kind, day + interval '9 hours'
FROM generate_series(%(first)s, %(last)s, interval '1 day') AS day, unnest(%(owners)s::uuid[]) AS owner,
     generate_series(1, %(types)s) AS kind
"""
_RECORD = b"""
INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)
SELECT organization_id, created_at::date, event_type, 1, 1 FROM analytics.contact_activity
"""
_VERSIONS = b"SELECT xmin::text, id FROM analytics.event_aggregates ORDER BY id"


@pytest.fixture
def session(direct_settings: Settings) -> Iterator[Session]:
    with connect(direct_settings) as opened:
        yield opened


def _asked(settings: Settings, name: str = HOURLY, sample: Draw | None = None, **options: object) -> Verification:
    job = JOBS[name]
    return Verification(job, job.options.model_validate(options), settings, sample)


def _verify(session: Session, asked: Verification, window: Window, *, repair: bool = False) -> list[VerifiedBucket]:
    now: Callable[[], datetime] | None = (lambda: _NOW) if repair else None
    return list(verify(session, asked, buckets(asked.job, window), repair_now=now))


def _differences(found: list[VerifiedBucket]) -> list[tuple[Any, ...]]:
    """Return what differs: date, organization, kind, figure, what stands and what should."""
    names = ("organization_id", "kind", "figure", "stands", "should_be")
    return [
        (each.bucket.start.date(), *(row[name] for name in names))
        for each in found
        if each.figures is not None
        for row in each.figures.differences
    ]


def _groups(found: list[VerifiedBucket]) -> int:
    return sum(each.figures.groups for each in found if each.figures is not None)


def _change(session: Session, change: bytes, **values: object) -> None:
    assert session.execute(b"UPDATE analytics.event_aggregates SET " + change, values) == 1


@pytest.mark.slow
def test_one_count_in_80_000_rows_is_found_and_nothing_else_is_written(
    direct_settings: Settings, session: Session
) -> None:
    owners = [organization(number) for number in range(_ORGANIZATIONS)]
    span = {"first": naive(_ALL.start), "last": naive(_ALL.end) - timedelta(days=1)}
    session.execute(_FILL, {"owners": owners, "types": _TYPES, **span})
    session.execute(_RECORD)
    asked = _asked(direct_settings)
    found = _verify(session, asked, _ALL)
    assert (_groups(found), _differences(found)) == (80_000, [])
    key: dict[str, object] = {"org": organization(7), "date": date(2026, 9, 6)}
    where = b" WHERE organization_id = %(org)s AND date = %(date)s AND event_type = 'type_7'"
    before = {row["id"]: row["xmin"] for row in session.rows(_VERSIONS)}
    _change(session, b"count = 0" + where, **key)
    repaired = _verify(session, asked, _ALL, repair=True)
    assert _differences(repaired) == [(key["date"], key["org"], "type_7", "count", 0, 1)]
    assert [each.bucket.start.date() for each in repaired if each.runs] == [key["date"]]
    assert not any(each.wrong for each in repaired)
    after = {row["id"]: row["xmin"] for row in session.rows(_VERSIONS)}
    assert len({name for name in after if after[name] != before[name]}) == 1
    _sampled(session, asked)
    _shrinks(session, asked, where, key)


def _sampled(session: Session, asked: Verification) -> None:
    """A seed draws the same pairs of organization and day each time, and other organizations on other days."""

    def pairs(share: float, seed: int) -> list[int]:
        found = _verify(session, replace(asked, sample=Draw(share, seed)), day("2026-09-01", 3))
        return [each.figures.groups // _TYPES for each in found if each.figures]

    drawn, other = pairs(0.1, 1), pairs(0.1, 2)
    assert drawn == pairs(0.1, 1) != other
    # Of 600 pairs, 60 with a standard deviation of 7.
    assert all(20 < sum(each) < 100 for each in (drawn, other))
    assert len(set(drawn)) > 1
    assert pairs(1, 3) == [_ORGANIZATIONS] * 3


def _shrinks(session: Session, asked: Verification, where: bytes, key: dict[str, object]) -> None:
    """A value that is too high is told, and lowered only if that is allowed."""
    _change(session, b"count = 2" + where, **key)
    one = day("2026-09-06")
    (kept,) = _verify(session, asked, one, repair=True)
    assert kept.left is not None
    assert [row["withheld"] for row in kept.left.differences] == ["shrinks"]
    assert any("recorded values would fall, from 2 to 1" in problem for problem in kept.problems)
    allowed = replace(asked, options=asked.options.model_copy(update={"allow_shrink": True}))
    (lowered,) = _verify(session, allowed, one, repair=True)
    assert not lowered.wrong


_CAMPAIGN = UUID(int=7)
_MESSAGE = (
    b"INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)"
    b" VALUES (%(org)s, %(contact)s, %(kind)s, %(source)s, %(at)s)"
)


def _message(session: Session, owner: UUID, kind: str, at: datetime, person: int = 1) -> None:
    values = {"org": owner, "contact": contact(person), "kind": kind, "source": str(_CAMPAIGN), "at": naive(at)}
    session.execute(_MESSAGE, values)


def _recorded(session: Session, name: str) -> list[dict[str, Any]]:
    """Return the rows of a job, in the order of their keys."""
    channel = {HOURLY: "channel IS NULL", REPORTS: "true", MONTHLY: "channel = 'monthly_summary'"}[name]
    rows = session.rows(f"SELECT * FROM analytics.{_TABLES[name]} WHERE {channel}".encode())
    return sorted(rows, key=lambda row: _key(name, row))


def _but_id(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "id"}


def _key(name: str, row: dict[str, Any]) -> tuple[Any, ...]:
    return row["date"], row["organization_id"], str(row["campaign_id" if name == REPORTS else "event_type"])


def _break(session: Session, name: str, chance: random.Random) -> None:
    """Change two rows by one, delete one, and add one of an organization that has no event."""
    table = _TABLES[name]
    first, second = ("sent", "unique_opened") if name == REPORTS else ("count", "unique_count")
    rows = chance.sample(_recorded(session, name), 4)
    changes = (f"UPDATE analytics.{table} SET {first} = {first} + 1", f"UPDATE analytics.{table} SET {second} = 9")
    for row, change in zip(rows, (*changes, f"DELETE FROM analytics.{table}"), strict=False):
        assert session.execute(f"{change} WHERE id = %(id)s".encode(), {"id": row["id"]}) == 1
    copy = {**rows[3], "id": organization(5), "organization_id": organization(99)}
    marks = ", ".join(f"%({column})s" for column in copy)
    session.execute(f"INSERT INTO analytics.{table} VALUES ({marks})".encode(), copy)


@pytest.mark.parametrize("name", [HOURLY, REPORTS, MONTHLY])
def test_whatever_was_broken_by_hand_is_found_and_put_back(
    direct_settings: Settings, session: Session, name: str
) -> None:
    chance = random.Random(name)
    window = Window(utc("2026-09-01"), utc("2026-11-01")) if name == MONTHLY else day("2026-09-01", 4)
    for number in range(80):
        at = window.start + timedelta(hours=chance.randrange((window.end - window.start) // timedelta(hours=1)))
        kind = chance.choice(("email_sent", "email_opened", "email_clicked"))
        _message(session, organization(number % 4), kind, at, chance.randrange(3))
    for each in buckets(JOBS[name], window):
        assert run(request(direct_settings, each, name, now=_NOW)).error is None
    truth = [_but_id(row) for row in _recorded(session, name)]
    asked = _asked(direct_settings, name, allow_shrink=True)
    assert _differences(_verify(session, asked, window)) == []
    for _ in range(3):
        _break(session, name, chance)
        stand = [_but_id(row) for row in _recorded(session, name)]
        broken = [row for row in stand if row not in truth] + [row for row in truth if row not in stand]
        found = {each[:3] for each in _differences(_verify(session, asked, window))}
        assert found == {_key(name, row) for row in broken}
        assert not any(each.wrong for each in _verify(session, asked, window, repair=True))
        assert [_but_id(row) for row in _recorded(session, name)] == truth


@pytest.mark.parametrize(("name", "late"), [(HOURLY, 2), (REPORTS, 1), (MONTHLY, 2)])
def test_events_that_came_late_are_told_from_rows_that_were_changed(
    direct_settings: Settings, session: Session, name: str, late: int
) -> None:
    acme, other = organization(1), organization(2)
    for owner in (acme, other):
        _message(session, owner, "email_sent", utc("2026-09-05T10:00"))
    window = day("2026-09-05")
    for each in (HOURLY, name):
        assert run(request(direct_settings, window, each, now=_NOW, options={})).error is None
    for kind in ("email_sent", "email_opened"):
        _message(session, acme, kind, utc("2026-09-05T11:00"))

    def counted() -> tuple[int, int, int]:
        (found,) = _verify(session, _asked(direct_settings, name), window)
        assert found.figures is not None
        return found.figures.differing, found.figures.late, found.figures.unexplained

    # A campaign has one row for all its kinds of events.
    assert counted() == (late, late, 0)
    # What falls is no late event, whatever else came late.
    column = "sent" if name == REPORTS else "count"
    channel = "channel = 'monthly_summary'" if name == MONTHLY else "true"
    raise_it = f"UPDATE analytics.{_TABLES[name]} SET {column} = 9 WHERE organization_id = %(org)s AND {channel}"
    session.execute(raise_it.encode(), {"org": other})
    differing, _, unexplained = counted()
    assert (differing, unexplained > 0) == (late + 1, True)
    # A row that is gone is no late event where no event came.
    run(request(direct_settings, window, HOURLY, now=_NOW, options={"allow_shrink": True}))
    run(request(direct_settings, window, name, now=_NOW, options={"allow_shrink": True}))
    assert counted() == (0, 0, 0)
    session.execute(
        f"DELETE FROM analytics.{_TABLES[name]} WHERE organization_id = %(org)s AND {channel}".encode(), {"org": other}
    )
    assert counted() == (1, 0, 1)


def test_withheld_groups_are_known(direct_settings: Settings, session: Session) -> None:
    add_events(session, [Event(organization(1), contact(1), "email_sent", utc("2026-09-05T10:00"))])
    window = day("2026-09-05")
    run(request(direct_settings, window, now=_NOW))
    session.execute(b"DELETE FROM analytics.contact_activity")
    slot = Window(window.end - timedelta(hours=1), window.end)
    run(request(direct_settings, slot, now=_NOW, slot=slot.end))
    (found,) = _verify(session, _asked(direct_settings), window)
    assert found.figures is not None
    assert (found.figures.differing, found.figures.known, found.figures.unexplained) == (1, 1, 0)


def test_a_row_that_cannot_be_written_keeps_no_other_organization_back(
    direct_settings: Settings, session: Session
) -> None:
    owners = [organization(number) for number in range(9)]
    add_events(session, [Event(owner, contact(1), "email_sent", utc("2026-09-05T10:00")) for owner in owners])
    session.execute(
        b"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        b" $$ BEGIN RAISE EXCEPTION 'this row is broken'; END $$"
    )
    session.execute(
        f"CREATE TRIGGER refuse BEFORE INSERT ON analytics.event_aggregates FOR EACH ROW"
        f" WHEN (NEW.organization_id = '{owners[4]}') EXECUTE FUNCTION refuse()".encode()
    )
    (found,) = _verify(session, _asked(direct_settings), day("2026-09-05"), repair=True)
    assert {key[0] for key in stored_rollups(session)} == {*owners} - {owners[4]}
    assert any("this row is broken" in problem for problem in found.problems)
    assert found.left is not None
    assert {row["organization_id"] for row in found.left.differences} == {owners[4]}


def test_a_day_that_cannot_be_compared_keeps_no_other_back(direct_settings: Settings, session: Session) -> None:
    add_events(session, [Event(organization(1), contact(1), "email_sent", utc("2026-09-06T10:00"))])
    job = JOBS[HOURLY]

    def slow(*given: Any) -> BucketFigures:
        if given[3].start == utc("2026-09-05"):
            raise StatementTimeoutError("it took too long")
        assert job.verify is not None
        return job.verify(*given)

    asked = replace(_asked(direct_settings), job=replace(job, verify=slow))
    first, second = _verify(session, asked, day("2026-09-05", 2))
    assert (str(first.error), first.wrong) == ("it took too long", True)
    assert len(_differences([second])) == 2


def test_one_organization_is_verified_without_the_others(direct_settings: Settings, session: Session) -> None:
    add_events(session, [Event(organization(n), contact(1), "email_sent", utc("2026-09-05T10:00")) for n in (1, 2)])
    asked = _asked(direct_settings, org=[str(organization(1))])
    (found,) = _verify(session, asked, day("2026-09-05"), repair=True)
    assert {key[0] for key in stored_rollups(session)} == {organization(1)}
    assert found.figures is not None
    assert found.figures.groups == 1
    with pytest.raises(UsageError, match="No organization"):
        _verify(session, _asked(direct_settings, org=[str(organization(9))]), day("2026-09-05"))


def test_only_so_many_differences_are_listed_and_all_are_counted(direct_settings: Settings, session: Session) -> None:
    days = [f"2026-09-0{number}" for number in range(1, 6)]
    add_events(session, [Event(organization(n), contact(1), "x", utc(f"{at}T10:00")) for at in days for n in range(5)])
    found = _verify(session, replace(_asked(direct_settings), limit=12), day("2026-09-01", 5))
    assert (len(_differences(found)), [each.figures.differing for each in found if each.figures]) == (12, [5] * 5)


def test_the_figures_are_compared_as_they_stand_at_one_instant(direct_settings: Settings, session: Session) -> None:
    """A month is counted and then compared: what another run commits between the two is not mistaken for a fault."""
    add_events(session, [Event(organization(1), contact(1), "email_sent", utc("2026-09-05T10:00"))])
    month = Window(utc("2026-09-01"), utc("2026-10-01"))
    run(request(direct_settings, month, MONTHLY, now=_NOW))
    job = JOBS[MONTHLY]

    class Between:
        """The transaction of a look; after its first count, more events are committed and recorded by another."""

        def __init__(self, inner: Any) -> None:
            self._inner, self._done = inner, False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def execute(self, query: bytes, parameters: Any = None) -> Any:
            made = self._inner.execute(query, parameters)
            if not self._done:
                self._done = True
                with connect(direct_settings) as other:
                    add_events(other, [Event(organization(1), contact(2), "email_sent", utc("2026-09-06T10:00"))])
                assert run(request(direct_settings, month, MONTHLY, now=_NOW)).error is None
            return made

    def beside(transaction: Any, *given: Any) -> BucketFigures:
        assert job.verify is not None
        return job.verify(Between(transaction), *given)

    asked = replace(_asked(direct_settings, MONTHLY), job=replace(job, verify=beside))
    assert _differences(_verify(session, asked, month)) == []


def test_a_job_that_records_no_figures_says_so() -> None:
    with pytest.raises(UsageError, match="warmup-daily-reset records no figures to verify"):
        comparison_of(JOBS["warmup-daily-reset"])
