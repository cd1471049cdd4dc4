"""The rights that docs/database.md lists, and those that the role lacks."""

from collections.abc import Sequence
from typing import NamedTuple

from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

_sql = statements("doctor")


class Grant(NamedTuple):
    """Privileges on objects of one kind, as GRANT names them."""

    privileges: str
    kind: str
    names: str


RUNNING_JOBS = (
    Grant("TEMPORARY", "DATABASE", "platform"),
    Grant("USAGE", "SCHEMA", "analytics, crm, delivery, journey, mauntic_jobs"),
    Grant("SELECT", "TABLE", "analytics.contact_activity, delivery.sending_domains"),
    Grant("SELECT, INSERT, UPDATE, DELETE", "TABLE", "analytics.event_aggregates, analytics.campaign_daily_stats"),
    Grant("SELECT", "TABLE", "crm.contacts, crm.segment_contacts"),
    Grant("SELECT, UPDATE", "TABLE", "crm.segments"),
    Grant("SELECT", "TABLE", "journey.journeys, journey.journey_versions, journey.journey_steps"),
    Grant("SELECT", "TABLE", "journey.journey_step_connections, journey.journey_triggers, journey.step_executions"),
    Grant("SELECT, INSERT, UPDATE", "TABLE", "journey.journey_executions"),
    Grant("INSERT", "TABLE", "journey.execution_logs"),
    Grant("SELECT, INSERT, UPDATE", "TABLE", "mauntic_jobs.runs, mauntic_jobs.outbox, mauntic_jobs.schedules"),
    Grant(
        "SELECT, INSERT, UPDATE", "TABLE", "mauntic_jobs.alerts, mauntic_jobs.redis_marker, mauntic_jobs.rollup_days"
    ),
    Grant("SELECT, INSERT, UPDATE, DELETE", "TABLE", "mauntic_jobs.withheld, mauntic_jobs.late_events"),
    Grant("SELECT, INSERT, UPDATE, DELETE", "TABLE", "mauntic_jobs.reported_days, mauntic_jobs.segment_marks"),
    Grant("SELECT, INSERT, UPDATE", "TABLE", "mauntic_jobs.upkeep, mauntic_jobs.backfills"),
    Grant("SELECT, INSERT", "TABLE", "mauntic_jobs.backfill_windows"),
    Grant("SELECT", "TABLE", "mauntic_jobs.backfill_progress"),
    Grant("SELECT, INSERT", "TABLE", "mauntic_jobs.figure_changes"),
    Grant("USAGE", "SEQUENCE", "mauntic_jobs.fencing_tokens"),
)
DELIVERING = (
    Grant("USAGE", "SCHEMA", "analytics, content, crm, delivery, mauntic_jobs"),
    Grant("SELECT", "TABLE", "crm.contacts, content.templates, delivery.provider_configs, delivery.sending_domains"),
    Grant("SELECT", "TABLE", "crm.companies, crm.contact_companies, crm.segments, crm.segment_contacts"),
    Grant("SELECT, INSERT", "TABLE", "delivery.delivery_events, delivery.suppressions, analytics.contact_activity"),
    Grant("SELECT, UPDATE", "TABLE", "delivery.delivery_jobs"),
    Grant("SELECT, INSERT, UPDATE", "TABLE", "mauntic_jobs.deliveries, mauntic_jobs.redis_marker"),
    Grant("SELECT, INSERT, UPDATE", "TABLE", "mauntic_jobs.restrictions, mauntic_jobs.frequency_caps"),
    Grant("SELECT", "TABLE", "mauntic_jobs.turn_weights"),
    Grant("SELECT, UPDATE", "TABLE", "mauntic_jobs.lease_sweep, mauntic_jobs.sent_count"),
    Grant("SELECT, INSERT, DELETE", "TABLE", "mauntic_jobs.sent_minutes"),
    Grant("SELECT, INSERT, UPDATE, DELETE", "TABLE", "mauntic_jobs.provider_pauses"),
)


def lacking(session: Session, grants: Sequence[Grant]) -> list[str]:
    """Return the privileges that the role lacks, such as `UPDATE on crm.segments`; on what is not there, none."""
    wanted = [
        (grant.kind, name, privilege)
        for grant in grants
        for privilege in grant.privileges.split(", ")
        for name in grant.names.split(", ")
    ]
    kinds, names, privileges = (list(column) for column in zip(*wanted, strict=True))
    rows = session.rows(_sql["lacking"], {"kinds": kinds, "names": names, "privileges": privileges})
    return [f"{row['privilege']} on {row['name']}" for row in rows]


def unreadable(session: Session, tables: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return those of the tables that the role may not read, and those that are not there."""
    rows = session.rows(_sql["unreadable"], {"tables": list(tables)}) if tables else []
    return (
        [row["name"] for row in rows if row["present"]],
        [row["name"] for row in rows if not row["present"]],
    )
