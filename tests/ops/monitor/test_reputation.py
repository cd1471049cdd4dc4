"""Organizations with many hard bounces or complaints: warned of at half of a limit, paused above it, and no others."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from mauntic_jobs.alerts.alert import Alert, Severity
from mauntic_jobs.job import Row
from mauntic_jobs.ops.monitor.conditions.reputation import reputations
from mauntic_jobs.ops.restrictions import RestrictedScope, end_restrictions, restrict
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.ops.monitor.test_shares import add_deliveries
from tests.support import organization, utc, wait_until

NOW = utc("2026-11-05T10:30:30")
MINUTE = timedelta(minutes=1)
RECENTLY, EARLIER = NOW - 10 * MINUTE, NOW - timedelta(hours=5)


def add_events(
    session: Session, kind: str, count: int, *, org: int = 1, at: datetime = RECENTLY, metadata: object = None
) -> None:
    session.execute(
        b"INSERT INTO delivery.delivery_events"
        b" (job_id, organization_id, contact_id, channel, event_type, metadata, created_at)"
        b" SELECT gen_random_uuid(), %(org)s, gen_random_uuid(), 'email', %(kind)s, %(metadata)s::jsonb,"
        b" %(at)s AT TIME ZONE 'UTC' FROM generate_series(1, %(count)s)",
        {"org": organization(org), "kind": kind, "metadata": json.dumps(metadata), "at": at, "count": count},
    )


def look(session: Session, now: datetime = NOW, **settings: Any) -> list[Alert]:
    return reputations(session, Settings(**settings), now)


def pauses(session: Session) -> list[Row]:
    return session.rows(b"SELECT * FROM mauntic_jobs.restrictions ORDER BY id")


# The kind, how many of how many messages, when, and what comes of it.
CASES = [
    ("complained", 5, 200, RECENTLY, "paused"),
    ("complained", 4, 200, RECENTLY, None),
    ("complained", 5, 199, RECENTLY, None),
    ("complained", 5, 500, RECENTLY, "warned"),
    ("complained", 5, 1000, RECENTLY, None),
    ("complained", 10, 1000, EARLIER, "paused"),
    ("complained", 10, 999, EARLIER, None),
    ("complained", 10, 3334, EARLIER, "warned"),
    ("complained", 9, 1000, EARLIER, None),
    ("bounced", 20, 199, RECENTLY, "paused"),
    ("bounced", 20, 200, RECENTLY, "warned"),
    ("bounced", 20, 400, RECENTLY, None),
    ("bounced", 19, 19, RECENTLY, None),
    ("bounced", 50, 999, EARLIER, "paused"),
    ("bounced", 50, 1000, EARLIER, "warned"),
    ("bounced", 49, 600, EARLIER, None),
    ("bounced", 500, 600, NOW - timedelta(hours=25), None),
    ("opened", 500, 600, RECENTLY, None),
]


@pytest.mark.parametrize(("kind", "count", "sent", "at", "comes"), CASES)
def test_above_a_limit_sending_is_paused_and_at_half_of_it_there_is_a_warning(
    session: Session, kind: str, count: int, sent: int, at: datetime, comes: str | None
) -> None:
    add_deliveries(session, "sent", sent, at=at)
    add_events(session, kind, count, at=at)
    found = look(session)
    expected = {"paused": [Severity.ERROR], "warned": [Severity.WARNING], None: []}[comes]
    assert [alert.severity for alert in found] == expected
    assert len(pauses(session)) == (comes == "paused")


def test_refusals_at_the_time_of_sending_count_as_well(session: Session) -> None:
    add_deliveries(session, "sent", 180)
    add_deliveries(session, "failed", 12, reject="bounced")
    add_deliveries(session, "failed", 300, reject="unsubscribed")
    add_events(session, "bounced", 7)
    assert look(session) == []
    add_events(session, "bounced", 9)
    (alert,) = look(session)
    assert alert.summary == (
        f"The email messages of organization {organization(1)} are at risk of being blocked, and paused: "
        "14.58% hard bounces within the last hour (28 of 192, limit 10.0%)."
    )
    assert alert.details == {"bounced": 28, "sent": 192, "share": 0.14583}


def test_the_pause_says_who_and_why_and_touches_nobody_else(session: Session) -> None:
    add_deliveries(session, "sent", 100)
    add_events(session, "bounced", 40)
    add_deliveries(session, "sent", 1000, org=2)
    add_events(session, "bounced", 10, org=2)
    (alert,) = look(session)
    (row,) = pauses(session)
    assert (row["organization_id"], row["channel"], row["rate"], row["until"]) == (organization(1), "email", 0, None)
    assert (row["set_by"], row["why"]) == (
        "monitor",
        "40.00% hard bounces within the last hour (40 of 100, limit 10.0%)",
    )
    assert alert.action == f"mauntic-jobs deliveries resume {row['id']}"


def test_the_alert_lasts_as_long_as_the_pause_and_there_is_one_of_each(session: Session) -> None:
    add_deliveries(session, "sent", 100)
    add_events(session, "bounced", 50)
    look(session)
    tomorrow = NOW + timedelta(days=2)
    (alert,) = look(session, tomorrow)
    assert "50 of 100" in alert.summary
    assert len(pauses(session)) == 1
    end_restrictions(session, None, "ops on host", tomorrow)
    assert look(session, tomorrow + MINUTE) == []


def test_after_a_pause_only_what_comes_then_counts(session: Session) -> None:
    add_deliveries(session, "sent", 100)
    add_events(session, "bounced", 50)
    look(session)
    end_restrictions(session, None, "ops on host", NOW + MINUTE)
    assert look(session, NOW + 2 * MINUTE) == []
    add_deliveries(session, "sent", 60, at=NOW + 3 * MINUTE)
    add_events(session, "bounced", 19, at=NOW + 3 * MINUTE)
    assert look(session, NOW + 4 * MINUTE) == []
    add_events(session, "bounced", 5, at=NOW + 4 * MINUTE)
    (alert,) = look(session, NOW + 5 * MINUTE)
    assert "24 of 60" in alert.summary
    assert len(pauses(session)) == 2


def test_what_an_operator_has_paused_is_not_paused_again(session: Session) -> None:
    scope = RestrictedScope(organization(1))
    restrict(session, scope, rate=0, why="bad list", by="ops on host", now=NOW - MINUTE, until=None)
    add_deliveries(session, "sent", 100)
    add_events(session, "bounced", 50)
    (alert,) = look(session)
    assert (alert.severity, len(pauses(session))) == (Severity.ERROR, 1)


@pytest.mark.parametrize(("setting", "until"), [("6h", NOW + timedelta(hours=6)), ("on", None)])
def test_a_pause_ends_by_itself_where_that_is_set(session: Session, setting: str, until: datetime | None) -> None:
    add_deliveries(session, "sent", 100)
    add_events(session, "bounced", 50)
    look(session, auto_pause=setting)
    assert [row["until"] for row in pauses(session)] == [until]


def test_nothing_is_paused_where_that_is_off(session: Session) -> None:
    add_deliveries(session, "sent", 100)
    add_events(session, "bounced", 50)
    (alert,) = look(session, auto_pause="off")
    assert (alert.severity, pauses(session)) == (Severity.ERROR, [])


@pytest.mark.parametrize("setting", ["maybe", "0s", "-1h", ""])
def test_another_setting_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="auto_pause"):
        Settings(auto_pause=setting)


def test_monitors_on_two_hosts_pause_once(direct_settings: Settings, session: Session) -> None:
    add_deliveries(session, "sent", 100)
    add_events(session, "bounced", 50)

    def other_host() -> list[Alert]:
        with connect(direct_settings) as own:
            return look(own)

    with ThreadPoolExecutor() as pool:
        with connect(direct_settings) as holder:
            # As one monitor does that has paused, and has not committed.
            holder.execute_alone(b"BEGIN")
            holder.rows(statements("reputation")["lock"])
            scope = RestrictedScope(organization(1), "email")
            restrict(holder, scope, rate=0, why="50 of 100", by="monitor", now=NOW, until=None)
            other = pool.submit(other_host)
            waiting = b"SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            wait_until(lambda: session.rows(waiting) or other.done(), "the other monitor")
            holder.execute_alone(b"COMMIT")
        assert len(other.result()) == 1
    assert len(pauses(session)) == 1
