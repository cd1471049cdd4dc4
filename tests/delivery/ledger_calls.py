"""The ledger's functions in Postgres, called one by one."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from tests.delivery.world import World

_sql = statements("deliveries")
LEASE = timedelta(seconds=60)
RESEND_AFTER = timedelta(seconds=120)
# What the sweep of leases is asked.
SWEEP = {"resend_after": RESEND_AFTER, "most": 10, "behind": timedelta()}


def claim(world: World, delivery: str = "d1", **fields: Any) -> Row:
    """Claim one delivery of the world's organization, to be sent at once.

    Its `payload` is kept, as it is after a first result, unless it is None.
    """
    payload = fields.pop("payload", {"deliveryId": delivery})
    given = {
        "n": 0,
        "organization_id": str(world.organization),
        "delivery_id": delivery,
        "channel": "email",
        "address": "ann@example.com",
        "queue_job": "j1",
        "message_id": f"<{delivery}@acme.test>",
        "owner": str(uuid4()),
        "ready": True,
        **fields,
    }
    claimed = _asked(world, "claim", claims=[given], lease=LEASE)
    if payload is not None:
        world.write(
            "UPDATE mauntic_jobs.deliveries SET payload = %(payload)s::jsonb WHERE delivery_id = %(delivery)s",
            payload=json.dumps(payload),
            delivery=delivery,
        )
    return claimed


def record(world: World, claimed: Row, state: str, delivery: str = "d1", **fields: Any) -> Row:
    """Record a result of a claim."""
    given = {
        "n": 0,
        "organization_id": str(world.organization),
        "delivery_id": delivery,
        "fence": claimed["fence"],
        "state": state,
        **fields,
    }
    return _asked(world, "record", results=[given], resend_after=RESEND_AFTER, record_activity=True)


def event(
    world: World, contact: UUID, kind: str = "delivered", at: str = "now() AT TIME ZONE 'UTC'", **row: Any
) -> None:
    """Add an event as a webhook does; `at` is SQL for the column `created_at`."""
    world.write(
        "INSERT INTO delivery.delivery_events (job_id, organization_id, contact_id, channel, event_type,"
        " provider_message_id, metadata, created_at) VALUES (%(job)s, %(organization)s, %(contact)s, 'email', %(kind)s,"
        f" %(message)s, %(metadata)s::jsonb, {at})",
        job=row.get("job") or uuid4(),
        contact=contact,
        kind=kind,
        message=row.get("message"),
        metadata=json.dumps(row.get("metadata")),
    )


def _asked(world: World, statement: str, **parameters: Any) -> Row:
    encoded = {name: json.dumps(each) if isinstance(each, list) else each for name, each in parameters.items()}
    ((answer,),) = [row["json_agg"] for row in world.session.rows(_sql[statement], encoded)]
    found: Row = answer
    return found
