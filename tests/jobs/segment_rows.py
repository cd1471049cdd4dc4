"""Rows of the platform that segment triggers are evaluated by."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import naive
from tests.support import organization, utc

NOW = utc("2026-10-05T10:00")
ACME, GLOBEX = organization(1), organization(2)


class Platform:
    """Writes the platform's rows."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def insert(self, table: str, **values: Any) -> UUID:
        values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
        columns, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
        row = self.session.row(f"INSERT INTO {table} ({columns}) VALUES ({places}) RETURNING id".encode(), values)
        return UUID(str(row["id"]))

    def contact(self, owner: UUID = ACME, **values: Any) -> UUID:
        return self.insert("crm.contacts", organization_id=owner, **values)

    def segment(self, owner: UUID = ACME, kind: str = "dynamic", **criteria: Any) -> UUID:
        return self.insert(
            "crm.segments", organization_id=owner, name="segment", type=kind, filter_criteria=criteria or None
        )

    def member(self, segment: UUID, contact: UUID) -> None:
        self.insert("crm.segment_contacts", segment_id=segment, contact_id=contact)

    def journey(self, segment: UUID, owner: UUID = ACME, status: str = "active", **rules: Any) -> "Journey":
        return Journey(self, segment, owner, status, rules)

    def executions(self, journey: UUID) -> list[dict[str, Any]]:
        return self.session.rows(
            b"SELECT * FROM journey.journey_executions WHERE journey_id = %(journey)s ORDER BY started_at, id",
            {"journey": journey},
        )


class Journey:
    """A journey with a published version of one step, and a segment trigger."""

    def __init__(self, platform: Platform, segment: UUID, owner: UUID, status: str, rules: dict[str, Any]) -> None:
        self.platform = platform
        self.id = platform.insert("journey.journeys", organization_id=owner, name="journey", status=status)
        self.version = self.publish(1, NOW - timedelta(days=1))
        self.step = self.add_step(self.version, "action")
        config = {"type": "segment", "segmentId": str(segment), **rules}
        self.trigger = platform.insert(
            "journey.journey_triggers", journey_id=self.id, organization_id=owner, type="segment", config=config
        )

    def publish(self, number: int, at: datetime | None) -> UUID:
        return self.platform.insert(
            "journey.journey_versions",
            journey_id=self.id,
            organization_id=ACME,
            version_number=number,
            definition={},
            published_at=naive(at) if at else None,
        )

    def add_step(self, version: UUID, kind: str) -> UUID:
        return self.platform.insert(
            "journey.journey_steps", journey_version_id=version, organization_id=ACME, type=kind, config={}
        )

    def add_execution(self, contact: UUID, status: str, started: datetime) -> UUID:
        return self.platform.insert(
            "journey.journey_executions",
            journey_id=self.id,
            journey_version_id=self.version,
            organization_id=ACME,
            contact_id=contact,
            status=status,
            started_at=naive(started),
        )
