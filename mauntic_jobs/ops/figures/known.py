"""Checks that the ids that figures are asked about exist: an empty answer must not hide a mistyped id."""

from datetime import tzinfo
from uuid import UUID

from mauntic_jobs.errors import UsageError
from mauntic_jobs.jobs.aggregate_hourly import UNKNOWN
from mauntic_jobs.jobs.options import check_known
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window, naive

_sql = statements("figures")
_rollups_sql = statements("event_aggregates")
_campaigns_sql = statements("campaign_daily_stats")


def check_organization(session: Session, organization: UUID | None) -> None:
    """Raise UsageError for an organization that has neither events nor rollups."""
    if organization is not None:
        asked = {"organizations": [organization]}
        check_known(session, _rollups_sql["unknown_organizations"], asked, UNKNOWN)


def check_campaign(session: Session, campaign: UUID | None, days: Window, zone: tzinfo) -> None:
    """Raise UsageError for a campaign that has neither figures nor events; events of the days are looked at first."""
    if campaign is not None:
        asked = {"campaigns": [campaign], "start": naive(days.start, zone), "end": naive(days.end, zone)}
        sentence = "No campaign {}: it has neither events nor figures. Check its id."
        check_known(session, _campaigns_sql["unknown_campaigns"], asked, sentence)


def check_journey(session: Session, journey: UUID | None, organization: UUID | None) -> None:
    """Raise UsageError for a journey that the organization, or any, does not have, or for an unknown organization."""
    asked = {"journey": journey, "organization": organization}
    if journey is not None and session.row(_sql["unknown_journey"], asked)["unknown"]:
        where = "" if organization is None else f" of organization {organization}"
        raise UsageError(f"No journey {journey}{where}. Check --journey.")
    if organization is not None and session.row(_sql["unknown_organization"], asked)["unknown"]:
        raise UsageError(f"No organization {organization}: it has neither journeys nor contacts. Check --org.")
