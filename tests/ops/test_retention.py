"""What becomes old is removed, what is not settled stays, and nothing but the schema mauntic_jobs is touched."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from mauntic_jobs.delivery.ledger.settle import expire
from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops import retention
from mauntic_jobs.ops.retention import PARTS, ages, prune
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.support import Event, add_events, contact, organization, role, run_program, utc

NOW = utc("2026-11-05T10:00")
TICK = timedelta(seconds=1)
SETTLED = ("sent", "failed", "suppressed", "expired")
OPEN = ("claimed", "sending", "deferred", "ambiguous")
DAYS = {part.name: timedelta(days=10) for part in PARTS}


@pytest.fixture
def session(direct_settings: Settings) -> Iterator[Session]:
    with connect(direct_settings) as opened:
        yield opened


def pruned(session: Session, kept: Mapping[str, timedelta] = DAYS, **more: Any) -> dict[str, int]:
    done = prune(session, kept, NOW, sleep=lambda _: None, **more)
    return {each.part: each.rows for each in done if each.rows}


def delivery(session: Session, name: str, state: str, age: timedelta) -> None:
    session.execute(
        b"INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, address, payload,"
        b" queue_job, owner, created_at, updated_at) VALUES (%(org)s, %(name)s, 'email', %(state)s, 'Ann@Example.com',"
        b" '{\"a\": 1}', 'j', gen_random_uuid(), %(at)s, %(at)s)",
        {"org": organization(1), "name": name, "state": state, "at": NOW - age},
    )


def ids(session: Session, table: str) -> list[int]:
    return [row["id"] for row in session.rows(f"SELECT id FROM mauntic_jobs.{table} ORDER BY id".encode())]


def test_contact_data_goes_first_and_a_hash_stays(session: Session) -> None:
    kept = {**DAYS, "contact_data": timedelta(days=3)}
    for state in (*SETTLED, *OPEN):
        delivery(session, f"{state}-old", state, timedelta(days=3) + TICK)
        delivery(session, f"{state}-young", state, timedelta(days=3))
    assert pruned(session, kept) == {"contact_data": 4}
    rows = session.rows(b"SELECT * FROM mauntic_jobs.deliveries")
    bare = {
        row["delivery_id"]: row["address_hash"] for row in rows if row["address"] is None and row["payload"] is None
    }
    known = sha256(f"{organization(1)}:ann@example.com".encode()).hexdigest()
    assert bare == {f"{state}-old": known for state in SETTLED}
    assert pruned(session, kept) == {}


def test_settled_deliveries_go_when_they_are_old(session: Session) -> None:
    for state in (*SETTLED, *OPEN):
        delivery(session, f"{state}-old", state, timedelta(days=10) + TICK)
        delivery(session, f"{state}-young", state, timedelta(days=10))
    assert pruned(session, {**DAYS, "unsettled": timedelta(days=100)})["deliveries"] == 4
    left = {row["delivery_id"] for row in session.rows(b"SELECT delivery_id FROM mauntic_jobs.deliveries")}
    assert left == {f"{state}-young" for state in SETTLED} | {
        f"{state}-{age}" for state in OPEN for age in ("old", "young")
    }
    (noted,) = session.rows(b"SELECT part, before FROM mauntic_jobs.pruned")
    assert (noted["part"], noted["before"]) == ("deliveries", NOW - timedelta(days=10))


def test_what_nothing_has_moved_expires_and_is_counted_once(session: Session) -> None:
    kept = {**DAYS, "deliveries": timedelta(days=50)}
    campaign = session.row(
        b"INSERT INTO delivery.delivery_jobs (organization_id, channel, status, recipient_count, sent_count,"
        b" failed_count, idempotency_key) VALUES (%(org)s, 'email', 'sending', 5, 1, 0, 'k') RETURNING id",
        {"org": organization(1)},
    )["id"]
    for state in OPEN:
        delivery(session, f"{state}-old", state, timedelta(days=10) + TICK)
        delivery(session, f"{state}-young", state, timedelta(days=10))
        delivery(session, f"{state}-waits", state, timedelta(days=10) + TICK)
    session.execute(
        b"UPDATE mauntic_jobs.deliveries SET until = %(until)s WHERE delivery_id LIKE '%%-waits'",
        {"until": NOW - timedelta(days=10)},
    )
    session.execute(
        b"UPDATE mauntic_jobs.deliveries SET job_id = %(job)s, until = CASE WHEN state IN ('sending', 'deferred') THEN"
        b" updated_at END, contact_id = gen_random_uuid() WHERE delivery_id LIKE '%%-old'",
        {"job": campaign},
    )
    assert pruned(session, kept, dry_run=True) == {"unsettled": 4}
    assert pruned(session, kept) == {"unsettled": 4, "contact_data": 4}
    rows = session.rows(b"SELECT * FROM mauntic_jobs.deliveries WHERE state = 'expired' ORDER BY delivery_id")
    assert [(row["delivery_id"], row["address"], row["payload"]) for row in rows] == [
        (f"{state}-old", None, None) for state in sorted(OPEN)
    ]
    assert ["may have been sent" in row["reason"] for row in rows] == [True, False, False, True]
    assert session.row(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs") == {
        "sent_count": 1,
        "failed_count": 4,
        "status": "partial",
    }
    assert session.row(b"SELECT count(*) FROM delivery.delivery_events")["count"] == 0
    assert pruned(session, kept) == {}


def test_what_was_taken_in_hand_meanwhile_does_not_expire(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery(session, "d1", "deferred", timedelta(days=11))

    def overtaken(*arguments: Any) -> list[bool]:
        session.execute(b"UPDATE mauntic_jobs.deliveries SET fence = fence + 1")
        return expire(*arguments)

    monkeypatch.setattr(retention, "expire", overtaken)
    assert pruned(session) == {}
    assert session.row(b"SELECT state FROM mauntic_jobs.deliveries")["state"] == "deferred"


def test_counts_that_the_role_may_not_write_are_owed(direct_settings: Settings, session: Session) -> None:
    for name in ("d1", "d2"):
        delivery(session, name, "claimed", timedelta(days=400))
    session.execute(b"UPDATE mauntic_jobs.deliveries SET job_id = gen_random_uuid()")
    rights = (*GRANTS, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mauntic_jobs TO {role}")
    with role(direct_settings, *rights) as own:
        done = run_program("db", "prune", "--older-than", "deliveries=999d", "--json", settings=own)
    assert done.returncode == 0, done.stderr
    assert {each["part"]: each["rows"] for each in json.loads(done.stdout)["parts"]}["unsettled"] == 2
    rows = session.rows(b"SELECT state, unrecorded IS NOT NULL AS owed, address FROM mauntic_jobs.deliveries")
    assert rows == [{"state": "expired", "owed": True, "address": None}] * 2


def test_a_large_table_is_gone_through_once_from_its_first_page_to_its_last(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PAGES", 1)
    for number in range(100):
        delivery(session, f"d{number}", "sent" if number % 3 else "deferred", timedelta(days=11))
    session.execute(b"UPDATE mauntic_jobs.deliveries SET until = %(now)s WHERE state = 'deferred'", {"now": NOW})
    assert session.row(b"SELECT pg_relation_size('mauntic_jobs.deliveries') / 8192 AS pages")["pages"] > 2
    assert pruned(session)["deliveries"] == 66
    assert session.row(b"SELECT count(*) FROM mauntic_jobs.deliveries")["count"] == 34


def run_rows(session: Session, job: str, count: int, age: timedelta, status: str = "succeeded") -> None:
    session.execute(
        b"INSERT INTO mauntic_jobs.runs (job, window_start, window_end, launcher, host, pid, version, fencing_token,"
        b" status, started_at, heartbeat_at, finished_at)"
        b" SELECT %(job)s, %(at)s, %(at)s + interval '1 hour', 'cli', 'h', 1, '0', 1, %(status)s,"
        b" %(at)s + n * interval '1 ms', %(at)s,"
        b" CASE WHEN %(status)s <> 'running' THEN %(at)s END FROM generate_series(1, %(count)s) AS n",
        {"job": job, "count": count, "at": NOW - age, "status": status},
    )


def test_runs_go_but_the_latest_hundred_of_each_job_and_those_under_way(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH", 7)
    run_rows(session, "busy", 150, timedelta(days=11))
    run_rows(session, "busy", 30, timedelta(days=9))
    run_rows(session, "rare", 40, timedelta(days=11))
    run_rows(session, "stuck", 1, timedelta(days=12), "running")
    run_rows(session, "stuck", 100, timedelta(days=11))
    assert pruned(session) == {"runs": 80}
    left = {
        row["job"]: row["count"] for row in session.rows(b"SELECT job, count(*) FROM mauntic_jobs.runs GROUP BY job")
    }
    assert left == {"busy": 100, "rare": 40, "stuck": 101}


def test_backfills_go_when_they_are_over_and_old_and_their_runs_after_them(session: Session) -> None:
    old, young = NOW - timedelta(days=10) - TICK, NOW - timedelta(days=10)
    for ended in (old, young, None):
        session.execute(
            b"INSERT INTO mauntic_jobs.backfills (job, range_start, range_end, reprocess, newest_first, parallel,"
            b" stop_after_failures, host, pid, state, ended_at)"
            b" VALUES ('busy', '2026-01-01', '2026-02-01', '{missing}', false, 1, 1, 'h', 1, %(state)s, %(at)s)",
            {"at": ended, "state": "ended" if ended else "active"},
        )
    session.execute(
        b"INSERT INTO mauntic_jobs.backfill_windows (backfill_id, position, window_start, window_end, found)"
        b" SELECT id, 1, range_start, range_end, 'missing' FROM mauntic_jobs.backfills"
    )
    run_rows(session, "busy", 3, timedelta(days=20))
    session.execute(b"UPDATE mauntic_jobs.runs SET backfill_id = id")
    run_rows(session, "busy", 100, timedelta(days=9))
    assert pruned(session) == {"backfills": 1, "runs": 1}
    assert ids(session, "backfills") == [2, 3]
    assert [row["backfill_id"] for row in session.rows(b"SELECT backfill_id FROM mauntic_jobs.backfill_windows")] == [
        2,
        3,
    ]
    assert ids(session, "runs")[:2] == [2, 3]


def test_more_rows_than_may_be_go_although_they_are_young(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    few = tuple(replace(part, most=3) if part.most else part for part in PARTS)
    monkeypatch.setattr(retention, "PARTS", few)
    for number in range(5):
        publish(session, number, "2026-11-05T09:00")
    publish(session, 9, None)
    assert pruned(session) == {"outbox": 3}
    assert ids(session, "outbox") == [4, 5, 6]


def publish(session: Session, number: int, published: str | None) -> None:
    session.execute(
        b"INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data, published_at)"
        b" VALUES ('q', %(n)s, 'n', '{}', %(at)s)",
        {"n": str(number), "at": utc(published) if published else None},
    )


def test_the_other_parts_go_when_they_are_over_and_old(session: Session) -> None:
    old, young = NOW - timedelta(days=10) - TICK, NOW - timedelta(days=10)
    for at in (old, young, None):
        session.execute(
            b"INSERT INTO mauntic_jobs.alerts"
            b" (fingerprint, cause, severity, summary, action, opened_at, seen_at, closed_at)"
            b" VALUES (%(f)s, 'c', 'info', 's', 'a', '2020-01-01', '2020-01-01', %(at)s)",
            {"f": str(at), "at": at},
        )
        session.execute(
            b"INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data, created_at, published_at)"
            b" VALUES ('q', %(j)s, 'n', '{}', '2020-01-01', %(at)s)",
            {"j": str(at), "at": at},
        )
    for at in (old, young):
        session.execute(
            b"INSERT INTO mauntic_jobs.duplicates (table_name, kept_id, row_data, moved_at)"
            b" VALUES ('t', gen_random_uuid(), '{}', %(at)s)",
            {"at": at},
        )
        for queue, job in (("q", "j"), ("run", "1"), ("run", "77")):
            session.execute(
                b"INSERT INTO mauntic_jobs.discarded (queue, job_id, name, fingerprint, reason, payload, attempts,"
                b" failed_at, discarded_at, discarded_by)"
                b" VALUES (%(q)s, %(j)s, 'n', 'f', 'r', '{}', 1, %(at)s, %(at)s, 'b')",
                {"q": queue, "j": job, "at": at},
            )
    # A run that is still in its ledger would be back among the dead letters.
    run_rows(session, "a", 1, timedelta(days=30), "failed")
    assert pruned(session) == {"discarded_payloads": 1, "outbox": 1, "alerts": 1, "discarded": 2, "duplicates": 1}
    assert (ids(session, "alerts"), ids(session, "outbox"), ids(session, "duplicates")) == ([2, 3], [2, 3], [2])
    assert ids(session, "discarded") == [2, 4, 5, 6]


def test_pauses_go_of_providers_that_nothing_has_tried_for_long(session: Session) -> None:
    for number in range(2_500):
        session.execute(
            b"INSERT INTO mauntic_jobs.provider_pauses VALUES (%(org)s, gen_random_uuid(), 'email', 'p', 'r', 5,"
            b" %(at)s, %(at)s)",
            {"org": organization(number % 7), "at": NOW - timedelta(days=10) - (TICK if number < 2_499 else 0 * TICK)},
        )
    assert ages(Settings(), {})["pauses"] == timedelta(days=7)
    assert pruned(session, dry_run=True) == {"pauses": 2_499}
    assert pruned(session) == {"pauses": 2_499}
    assert session.row(b"SELECT count(*) FROM mauntic_jobs.provider_pauses")["count"] == 1


def test_changes_of_figures_go_in_the_order_of_their_time_and_no_young_one_is_read(session: Session) -> None:
    change = (
        b"INSERT INTO mauntic_jobs.figure_changes"
        b" (changed_at, run_id, job, bucket, organization_id, reason, kinds, old, new) VALUES"
        b" (%(at)s, 1, 'aggregate-hourly', '2026-10-05', %(org)s, 'rebuild', '{a}', '{1,1}', '{2,1}')"
    )
    for age in (timedelta(days=20), timedelta(days=10) + TICK, timedelta(days=10), timedelta()):
        session.execute(change, {"at": NOW - age, "org": organization(1)})
    assert pruned(session, dry_run=True) == {"figure_changes": 2}
    assert pruned(session) == {"figure_changes": 2}
    assert (ids(session, "figure_changes"), pruned(session)) == ([3, 4], {})


def test_a_rehearsal_counts_and_writes_nothing(direct_settings: Settings, session: Session) -> None:
    delivery(session, "d1", "sent", timedelta(days=100))
    run_rows(session, "a", 101, timedelta(days=500))
    with role(
        direct_settings, *GRANTS, "REVOKE UPDATE, DELETE ON ALL TABLES IN SCHEMA mauntic_jobs FROM {role}"
    ) as own:
        done = run_program("db", "prune", "--dry-run", "--json", settings=own)
    assert done.returncode == 0, done.stderr
    rows = {each["part"]: each["rows"] for each in json.loads(done.stdout)["parts"] if each["rows"]}
    assert rows == {"contact_data": 1, "deliveries": 1, "runs": 1}


GRANTS = (
    "GRANT USAGE ON SCHEMA mauntic_jobs TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mauntic_jobs TO {role}",
)


def test_a_role_that_may_touch_nothing_else_is_enough(direct_settings: Settings, session: Session) -> None:
    add_events(session, [Event(organization(1), contact(1), "email_sent", utc("2020-01-01"))])
    delivery(session, "d1", "sent", timedelta(days=100))
    with role(direct_settings, *GRANTS) as own:
        done = run_program("db", "prune", settings=own)
        assert done.returncode == 0, done.stderr
        assert [line.split() for line in done.stdout.splitlines()[2:5:2]] == [
            ["contact_data", "30d", "1"],
            ["deliveries", "90d", "1"],
        ]
    assert session.row(b"SELECT count(*) FROM analytics.contact_activity")["count"] == 1


def test_a_row_that_is_in_use_is_left_for_the_next_time(direct_settings: Settings, session: Session) -> None:
    delivery(session, "d1", "sent", timedelta(days=11))
    delivery(session, "d2", "sent", timedelta(days=11))
    with connect(direct_settings) as other, other.transaction():
        other.execute(b"SELECT FROM mauntic_jobs.deliveries WHERE delivery_id = 'd1' FOR UPDATE")
        assert pruned(session)["deliveries"] == 1
    assert pruned(session)["deliveries"] == 1


def test_what_was_opened_again_meanwhile_stays(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery(session, "d1", "failed", timedelta(days=11))
    real = retention._old

    def overtaken(*arguments: Any) -> list[Any]:
        found = real(*arguments)
        if found:
            session.execute(b"UPDATE mauntic_jobs.deliveries SET state = 'claimed'")
        return found

    monkeypatch.setattr(retention, "_old", overtaken)
    assert pruned(session) == {}
    assert session.row(b"SELECT address FROM mauntic_jobs.deliveries")["address"] == "Ann@Example.com"


def test_a_prune_that_is_killed_has_done_what_it_did(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    for number in range(5):
        publish(session, number, "2026-10-01")

    def kill(_: float) -> None:
        if len(ids(session, "outbox")) < 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(prune(session, DAYS, NOW, sleep=kill))
    assert len(ids(session, "outbox")) == 3
    assert pruned(session) == {"outbox": 3}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"deliveries": timedelta(days=6)}, "deliveries must be kept for 7d or longer"),
        ({"unsettled": timedelta(days=6)}, "unsettled must be kept for 7d or longer"),
        ({"runs": timedelta(hours=23)}, "runs must be kept for 1d or longer"),
        ({"contact_activity": timedelta(days=90)}, "nothing called contact_activity"),
    ],
)
def test_what_must_not_be_pruned_is_refused(given: dict[str, timedelta], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        ages(Settings(), given)


def test_an_age_is_that_of_the_settings_unless_it_is_given() -> None:
    settings = Settings(retain_contact_data=timedelta(days=2), retain_runs=timedelta(days=50))
    kept = ages(settings, {"runs": timedelta(days=3)})
    assert (kept["contact_data"], kept["discarded_payloads"], kept["runs"]) == tuple(
        timedelta(days=n) for n in (2, 2, 3)
    )
    assert (kept["deliveries"], kept["unsettled"]) == (timedelta(days=90), timedelta(days=7))
