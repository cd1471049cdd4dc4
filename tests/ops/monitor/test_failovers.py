"""A provider that refuses while another one carries its messages is told of, although all goes out."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from mauntic_jobs.ops.monitor.conditions.failovers import providers_failed_over
from mauntic_jobs.stores.postgres.session import Session
from tests.ops.monitor.test_shares import FIRST, SECOND, add_deliveries
from tests.support import organization, utc

NOW = utc("2026-11-05T10:30:30")
MINUTE = timedelta(minutes=1)
SINCE = NOW - 20 * MINUTE


def refuse(session: Session, *, provider: UUID = FIRST, until: datetime = NOW + MINUTE, channel: str = "email") -> None:
    session.execute(
        b"INSERT INTO mauntic_jobs.provider_pauses VALUES (%(org)s, %(provider)s, %(channel)s, 'ses main',"
        b" '535 5.7.8 authentication of ann@example.com failed', 7, %(since)s, %(until)s)",
        {"org": organization(1), "provider": provider, "channel": channel, "since": SINCE, "until": until},
    )


def test_the_alert_names_the_provider_since_when_why_and_how_much_went_over_another(session: Session) -> None:
    refuse(session)
    add_deliveries(session, "sent", 30, provider=SECOND, at=NOW - 5 * MINUTE)
    add_deliveries(session, "sent", 12, provider=SECOND, at=NOW - 30 * MINUTE)
    (alert,) = providers_failed_over(session, NOW)
    assert alert.summary.startswith(
        f"ses main of organization {organization(1)} refuses since 2026-11-05 10:10 UTC (7 tries), and another "
        "provider carries its messages: 30 email since 10:10 UTC. The refusal: 535 5.7.8"
    )
    assert "example.com" not in alert.summary
    assert alert.action == f"mauntic-jobs providers check --org {organization(1)} --retry-now"
    assert alert.details == {"messages": 30, "tries": 7, "provider": str(FIRST)}


@pytest.mark.parametrize(
    ("provider", "org", "channel", "until"),
    [
        (FIRST, 1, "email", NOW + MINUTE),  # what it has sent itself
        (SECOND, 2, "email", NOW + MINUTE),  # another organization
        (SECOND, 1, "sms", NOW + MINUTE),  # another channel
        (SECOND, 1, "email", NOW - 11 * MINUTE),  # nothing has tried it since
    ],
)
def test_what_carries_nothing_for_it_is_no_failover(
    session: Session, provider: UUID, org: int, channel: str, until: datetime
) -> None:
    refuse(session, until=until, channel=channel)
    add_deliveries(session, "sent", 30, provider=provider, org=org, at=NOW - 5 * MINUTE)
    assert providers_failed_over(session, NOW) == []


def test_where_nothing_goes_out_others_tell(session: Session) -> None:
    refuse(session)
    refuse(session, provider=SECOND)
    assert providers_failed_over(session, NOW) == []
