"""Many events, counted in two halves: the same figures as of one count, and the plan that makes two processes of it."""

from typing import Any

import pytest

from mauntic_jobs.jobs.event_counts import COUNT, count_events
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from tests.jobs.random_events import TYPES, WINDOWS, add_random_events, figures
from tests.support import organization, request

COUNTED = {"start": "2026-10-05", "end": "2026-10-06", "date": "2026-10-05", "share": None, "seed": None}


def test_two_halves_add_up_to_the_whole(settings: Settings, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    add_random_events(session, 3_000)
    counted = [run(request(settings, window, name)).counters["events"] for name, window in WINDOWS.items()]
    whole = figures(session)
    assert [len(rows) for rows in whole.values()] == [3 * len(TYPES) * 2, 9]
    session.execute(b"TRUNCATE analytics.event_aggregates, analytics.campaign_daily_stats, mauntic_jobs.rollup_days")
    monkeypatch.setattr("mauntic_jobs.jobs.event_counts.MANY_EVENTS", 0)
    reports = [run(request(settings, window, name)) for name, window in WINDOWS.items()]
    assert figures(session) == whole
    assert [report.counters["events"] for report in reports] == counted
    assert counted[0] == counted[2] == 3_000


def _halves(session: Session, **parameters: Any) -> int:
    """Return in how many parts a count is made."""
    with session.rehearsal():
        count_events(session, COUNT, {**COUNTED, "organizations": None, **parameters})
        rows = session.rows(b"SELECT FROM pg_temp.mauntic_jobs_counted WHERE event_type = 'email_sent'")
        settings = session.row(
            b"SELECT current_setting('enable_sort') AS sort, current_setting('min_parallel_table_scan_size') AS size"
        )
    assert settings == {"sort": "on", "size": "8MB"}
    return len(rows)


def test_only_many_events_are_counted_in_halves(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mauntic_jobs.jobs.event_counts.MANY_EVENTS", 500)
    add_random_events(session, 1_000)
    assert _halves(session) == 3, "nothing tells of the events"
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, channel, count, unique_count)"
        b" VALUES (%(owner)s, '2026-10-05', 'email_sent', NULL, 500, 1)",
        {"owner": organization(1)},
    )
    assert _halves(session) == 6, "the last run tells"
    session.execute(b"TRUNCATE analytics.event_aggregates")
    session.execute(b"ANALYZE analytics.contact_activity")
    assert _halves(session) == 6, "the statistics tell"
    assert _halves(session, organizations=[organization(1)]) == 1
    assert _halves(session, share=2**31, seed=1) == 3


def _of_table(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the node of a plan that reads the table."""
    while "Plans" in plan:
        (plan,) = plan["Plans"]
    return plan


def test_each_half_is_the_work_of_one_process(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mauntic_jobs.jobs.event_counts.MANY_EVENTS", 0)
    add_random_events(session, 1_000)
    session.execute(b"ANALYZE analytics.contact_activity")
    asked: list[bytes] = []
    monkeypatch.setattr(session, "execute", lambda query, _=None: asked.append(query))
    count_events(session, COUNT, {**COUNTED, "organizations": None})
    monkeypatch.undo()
    settings, create, _ = asked
    with session.rehearsal():
        session.execute(
            b"SELECT set_config('parallel_setup_cost', '0', true), set_config('parallel_tuple_cost', '0', true)"
        )
        session.execute(settings)
        explain = b"EXPLAIN (COSTS OFF) " + create
        plan = "\n".join(
            row["QUERY PLAN"] for row in session.rows(explain, {**COUNTED, "organizations": None, "half": None})
        )
        count = COUNT.replace(b"%(half)s", b"1")
        (half,) = session.row(b"EXPLAIN (FORMAT JSON) " + count, {**COUNTED, "organizations": None})["QUERY PLAN"]
    # How much is spilled at a time follows from how many rows are expected.
    assert _of_table(half["Plan"])["Plan Rows"] > 200
    assert "Parallel Append" in plan
    assert "Parallel Seq Scan" not in plan
    assert "Sort" not in plan
    assert plan.count(" on contact_activity") == 2
