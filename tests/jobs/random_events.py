"""Random events of a day, and every figure that the jobs record of them."""

import random
from datetime import timedelta
from typing import Any

from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window
from tests.support import contact, day, organization, utc

DAY = day("2026-10-05")
MONTH = Window(utc("2026-10-01"), utc("2026-11-01"))
WINDOWS = {"aggregate-hourly": DAY, "generate-daily-reports": DAY, "monthly-usage-summary": MONTH}
CAMPAIGNS = [f"0abcdef0-0000-4000-8000-00000000000{number}" for number in range(3)]
TYPES = ("email_sent", "email_opened", "email_clicked", "sms_sent", "sms_clicked", "push_opened", "page_viewed")
TABLES = {
    "event_aggregates": "organization_id, date, event_type, channel, count, unique_count",
    "campaign_daily_stats": (
        "organization_id, date, campaign_id, sent, delivered, opened, unique_opened, clicked, unique_clicked, bounced,"
        " complained, unsubscribed"
    ),
}


def add_random_events(session: Session, count: int) -> None:
    chance = random.Random(5)
    session.copy(
        b"COPY analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)"
        b" FROM STDIN",
        (
            (
                organization(chance.randint(1, 3)),
                contact(chance.randint(1, 40)),
                chance.choice(TYPES),
                chance.choice([*CAMPAIGNS, None]),
                DAY.start.replace(tzinfo=None) + timedelta(seconds=chance.randrange(86_400)),
            )
            for _ in range(count)
        ),
    )


def figures(session: Session) -> dict[str, list[Any]]:
    return {
        table: session.rows(f"SELECT {columns} FROM analytics.{table} ORDER BY {columns}".encode())
        for table, columns in TABLES.items()
    }
