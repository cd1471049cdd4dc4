"""Shares of refused and deferred messages within an hour: what raises an alert, and what does not."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from mauntic_jobs.ops.monitor.conditions.receivers import receivers_deferring
from mauntic_jobs.ops.monitor.conditions.recipients import recipients_refused
from mauntic_jobs.ops.monitor.sent import Sender, sent_messages
from mauntic_jobs.stores.postgres.session import Session
from tests.support import organization, utc

NOW = utc("2026-11-05T10:30:30")
MINUTE = timedelta(minutes=1)
FIRST, SECOND = UUID(int=1), UUID(int=2)
WAIT = "the receiver asks to wait: 451 4.7.1 try again later"


def add_deliveries(
    session: Session,
    state: str,
    count: int,
    *,
    org: int = 1,
    provider: UUID = FIRST,
    at: datetime = NOW - MINUTE,
    reason: str | None = None,
    reject: str | None = None,
) -> None:
    """Add deliveries to the ledger that were claimed and changed last at an instant."""
    session.execute(
        b"INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, queue_job, owner,"
        b" provider_id, provider, claimed_at, updated_at, until, reason, reject_reason)"
        b" SELECT %(org)s, gen_random_uuid()::text, 'email', %(state)s, 'j', gen_random_uuid(), %(provider)s, 'smtp',"
        b" %(at)s, %(at)s, CASE WHEN %(state)s = 'deferred' THEN %(at)s::timestamptz + interval '1 hour' END,"
        b" %(reason)s, %(reject)s FROM generate_series(1, %(count)s)",
        {
            "org": organization(org),
            "state": state,
            "count": count,
            "provider": provider,
            "at": at,
            "reason": reason,
            "reject": reject,
        },
    )


def _deferring(session: Session) -> list[str]:
    return [alert.key for alert in receivers_deferring(session, NOW)]


def _key(org: int, provider: UUID) -> str:
    return f"email/{provider}/{organization(org)}"


@pytest.mark.parametrize(("deferred", "sent", "raised"), [(20, 80, False), (20, 79, True), (19, 0, False)])
def test_only_a_large_share_of_deferred_messages_raises_an_alert(
    session: Session, deferred: int, sent: int, raised: bool
) -> None:
    add_deliveries(session, "deferred", deferred, reason=WAIT)
    add_deliveries(session, "sent", sent)
    assert _deferring(session) == ([_key(1, FIRST)] if raised else [])


def test_only_what_receivers_deferred_within_the_hour_counts(session: Session) -> None:
    add_deliveries(session, "deferred", 50, reason="warm-up: 50 of 50 messages of acme.test were sent today")
    add_deliveries(session, "deferred", 50, reason="no provider can be used")
    add_deliveries(session, "deferred", 50, reason=WAIT, at=NOW - 61 * MINUTE)
    assert _deferring(session) == []


def test_what_others_send_does_not_hide_a_deferred_provider(session: Session) -> None:
    add_deliveries(session, "deferred", 25, reason=WAIT)
    add_deliveries(session, "sent", 1000, provider=SECOND)
    add_deliveries(session, "sent", 1000, org=2)
    assert _deferring(session) == [_key(1, FIRST)]


def test_the_alert_names_the_share_the_limit_the_provider_and_the_command(session: Session) -> None:
    add_deliveries(session, "deferred", 30, reason=f"{WAIT} <ann@example.com>")
    add_deliveries(session, "sent", 70)
    (alert,) = receivers_deferring(session, NOW)
    assert alert.summary.startswith(
        f"Receivers ask to wait with 30.0% of the email messages of organization {organization(1)} over smtp within "
        "1 h (limit 20.0%): 30 messages."
    )
    assert "451 4.7.1" in alert.summary
    assert "example.com" not in alert.summary
    assert alert.action == f"mauntic-jobs deliveries list --state deferred --channel email --org {organization(1)}"


def test_refused_recipients_are_compared_with_what_all_providers_sent(session: Session) -> None:
    add_deliveries(session, "failed", 20, reject="unsubscribed")
    add_deliveries(session, "failed", 200, reject="bounced")
    add_deliveries(session, "sent", 190)
    assert len(recipients_refused(session, NOW)) == 1
    add_deliveries(session, "sent", 190, provider=SECOND)
    assert recipients_refused(session, NOW) == []


def _sent(session: Session, now: datetime) -> dict[Sender, int]:
    return sent_messages(session, [organization(1)], now)


def test_what_was_sent_within_the_hour_is_counted_once_however_often_it_is_asked_for(session: Session) -> None:
    for ago in (59, 30, 6, 4, 0):
        add_deliveries(session, "sent", 10, at=NOW - ago * MINUTE)
    add_deliveries(session, "sent", 7, at=NOW - 62 * MINUTE)
    add_deliveries(session, "sending", 7, at=NOW - 20 * MINUTE)
    add_deliveries(session, "sent", 7, org=2)
    sender = Sender(organization(1), "email", FIRST)
    assert [_sent(session, NOW) for _ in range(3)] == [{sender: 50}] * 3
    add_deliveries(session, "sent", 5, at=NOW + 3 * MINUTE)
    assert _sent(session, NOW + 4 * MINUTE) == {sender: 45}
    assert _sent(session, NOW + 120 * MINUTE) == {}
    assert _sent(session, NOW + timedelta(days=2)) == {}
    assert session.rows(b"SELECT FROM mauntic_jobs.sent_minutes") == []


def test_a_message_is_read_from_the_ledger_within_its_first_minutes_only(session: Session) -> None:
    add_deliveries(session, "sent", 10, at=NOW - 30 * MINUTE)
    before = _sent(session, NOW)
    # Were they read again, they would be missing.
    session.execute(b"DELETE FROM mauntic_jobs.deliveries")
    assert _sent(session, NOW + MINUTE) == before


def test_a_look_with_a_clock_that_was_set_back_counts_nothing_twice(session: Session) -> None:
    add_deliveries(session, "sent", 10, at=NOW - 30 * MINUTE)
    _sent(session, NOW + 10 * MINUTE)
    assert list(_sent(session, NOW).values()) == [10]
