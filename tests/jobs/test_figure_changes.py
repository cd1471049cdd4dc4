"""What runs change in figures is noted: all of it, once, with the run and the reason; played back it is the figures."""

from datetime import date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.errors import ExitCode, JobFailedError
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.jobs.rollup import ChangeReason
from mauntic_jobs.ops.figures.history import FigureChange, read_changes
from mauntic_jobs.runner.request import Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Window
from tests.support import contact, day, organization, request, utc

MONTH = Window(utc("2026-10-01"), utc("2026-11-01"))
CAMPAIGNS = [UUID(int=1), UUID(int=2)]
TYPES = ("email_sent", "email_opened", "sms_sent", "page_viewed")
ADD = b"""
INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)
VALUES (%(organization)s, %(contact)s, %(type)s, %(source)s, %(at)s)
"""
STEPS = 40

Key = tuple[str, UUID, date, str]


def add(session: Session, at: datetime, kind: str = "email_sent", *, owner: int = 1, **more: Any) -> None:
    values = {"organization": organization(owner), "contact": contact(1), "type": kind, "source": None}
    session.execute(ADD, {**values, "at": at.replace(tzinfo=None), **more})


def ran(settings: Settings, window: Window, job: str = "aggregate-hourly", **more: Any) -> Report:
    return run(request(settings, window, job, **more))


def _fail(*_: object) -> None:
    raise JobFailedError("not now")


def noted(session: Session, job: str = "aggregate-hourly", owner: int = 1) -> list[FigureChange]:
    """Return the changes of an organization, the first one first."""
    return list(reversed(read_changes(session, JOBS[job], MONTH, organization(owner))))


def figures(session: Session) -> dict[Key, list[int]]:
    """Return all figures as they stand."""
    found: dict[Key, list[int]] = {}
    for row in session.rows(b"SELECT * FROM analytics.event_aggregates"):
        job = "monthly-usage-summary" if row["channel"] else "aggregate-hourly"
        key = (job, row["organization_id"], row["date"], row["event_type"])
        found[key] = [row["count"], row["unique_count"]]
    for row in session.rows(b"SELECT * FROM analytics.campaign_daily_stats"):
        key = ("generate-daily-reports", row["organization_id"], row["date"], str(row["campaign_id"]))
        own = {"id", "campaign_id", "organization_id", "date"}
        found[key] = [value for name, value in row.items() if name not in own]
    return found


def played_back(session: Session) -> dict[Key, list[int]]:
    """Return what the notes make of nothing, one after the other; each must begin where the one before ended."""
    found: dict[Key, list[int]] = {}
    for row in session.rows(b"SELECT * FROM mauntic_jobs.figure_changes ORDER BY id"):
        kinds = row["kinds"]
        for number, kind in enumerate(kinds):
            # First the first figure of each kind.
            old, new = (row[name][number :: len(kinds)] for name in ("old", "new"))
            key = (row["job"], row["organization_id"], row["bucket"], kind)
            absent = [None] * len(old)
            assert found.get(key, absent) == old != new
            found[key] = new
    return {key: each for key, each in found.items() if None not in each}


def _step(settings: Settings, session: Session, random: Random) -> None:
    start = utc("2026-10-05") + timedelta(days=random.randrange(3))
    match random.randrange(5):
        case 0 | 1:
            for _ in range(random.randrange(1, 9)):
                sources = [*(str(each) for each in CAMPAIGNS), f"campaign:{CAMPAIGNS[0]}", None, "journey"]
                add(
                    session,
                    start + timedelta(minutes=random.randrange(1440)),
                    random.choice(TYPES),
                    owner=random.randrange(1, 4),
                    contact=contact(random.randrange(3)),
                    source=random.choice(sources),
                )
        case 2:
            chosen = {"start": start.replace(tzinfo=None), "organization": organization(random.randrange(1, 4))}
            session.execute(
                b"DELETE FROM analytics.contact_activity WHERE organization_id = %(organization)s"
                b" AND created_at >= %(start)s AND created_at < %(start)s + interval '12 hours'",
                chosen,
            )
        case _:
            job = random.choice(["aggregate-hourly", "generate-daily-reports", "monthly-usage-summary"])
            options: dict[str, Any] = {"allow_shrink": random.random() < 0.5}
            if random.random() < 0.3:
                # An organization without events or rollups is refused, and changes nothing.
                options["org"] = [organization(random.randrange(1, 4))]
            window = MONTH if job == "monthly-usage-summary" else Window(start, start + timedelta(days=1))
            ran(settings, window, job, options=options)


@pytest.mark.parametrize("seed", range(3))
def test_the_notes_played_back_are_the_figures(settings: Settings, session: Session, seed: int) -> None:
    random = Random(seed)
    for _ in range(STEPS):
        _step(settings, session, random)
        assert played_back(session) == figures(session)
    assert {key[0] for key in figures(session)} == {*list(JOBS)[:3]}


def test_only_what_changes_is_noted_with_its_run(direct_settings: Settings) -> None:
    at = utc("2026-10-05T10:00")
    with connect(direct_settings) as session:
        add(session, at)
        add(session, at, "page_viewed")
        first, again = (ran(direct_settings, day("2026-10-05")) for _ in range(2))
        add(session, at, "page_viewed")
        third = ran(direct_settings, day("2026-10-05"))
        found = [(each.run, each.kind, each.figure, each.old, each.new) for each in noted(session)]
        assert again.counters["unchanged"] == 2
        assert sorted(found[:4]) == sorted(
            (first.run_id, kind, figure, None, 1)
            for kind in ("email_sent", "page_viewed")
            for figure in ("events", "contacts")
        )
        # Its contacts stayed as they were.
        assert found[4:] == [(third.run_id, "page_viewed", "events", 1, 2)]
        assert {(each.reason, each.bucket) for each in noted(session)} == {(ChangeReason.REBUILD, date(2026, 10, 5))}


def test_what_is_withheld_rehearsed_or_undone_is_not_noted(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = utc("2026-10-05T10:00")
    with connect(direct_settings) as session:
        add(session, at)
        assert ran(direct_settings, day("2026-10-05"), dry_run=True).counters["inserted"] == 1
        assert noted(session) == []
        with monkeypatch.context() as patch:
            patch.setattr("mauntic_jobs.runner.commit.succeed", _fail)
            assert ran(direct_settings, day("2026-10-05")).error is not None
        assert (noted(session), figures(session)) == ([], {})
        ran(direct_settings, day("2026-10-05"))
        session.execute(b"DELETE FROM analytics.contact_activity")
        assert ran(direct_settings, day("2026-10-05")).exit_code is ExitCode.REFUSED
        assert len(noted(session)) == 2
        removed = ran(direct_settings, day("2026-10-05"), options={"allow_shrink": True})
        last = [(each.run, each.figure, each.old, each.new) for each in noted(session)][2:]
        assert sorted(last) == [(removed.run_id, "contacts", 1, None), (removed.run_id, "events", 1, None)]


def test_late_events_and_other_writers_are_reasons(direct_settings: Settings) -> None:
    slot = utc("2026-10-07T02:00")
    with connect(direct_settings) as session:
        add(session, utc("2026-10-05T10:00"), source=str(CAMPAIGNS[0]))
        add(session, utc("2026-10-06T10:00"), source=str(CAMPAIGNS[0]))
        ran(direct_settings, day("2026-10-05", 2))
        ran(direct_settings, day("2026-10-05"), "generate-daily-reports")
        ran(direct_settings, MONTH, "monthly-usage-summary")
        add(session, utc("2026-10-05T23:00"), source=str(CAMPAIGNS[0]))
        report = ran(direct_settings, day("2026-10-06"), "generate-daily-reports", slot=slot, now=slot)
        assert report.counters["late_events"] == 1
        for job, bucket in (
            ("aggregate-hourly", date(2026, 10, 5)),
            ("generate-daily-reports", date(2026, 10, 5)),
            ("monthly-usage-summary", date(2026, 10, 1)),
        ):
            late = [each for each in noted(session, job) if each.reason is ChangeReason.LATE_EVENTS]
            assert {(each.run, each.bucket) for each in late} == {(report.run_id, bucket)}, job
        session.execute(b"UPDATE analytics.event_aggregates SET count = count + 5 WHERE date = '2026-10-06'")
        corrected = ran(direct_settings, day("2026-10-06"), options={"allow_shrink": True})
        last = noted(session)[-1]
        assert (last.run, last.reason, last.old, last.new) == (corrected.run_id, ChangeReason.OTHER_WRITER, 6, 1)
