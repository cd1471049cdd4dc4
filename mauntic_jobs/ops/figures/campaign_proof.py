"""Proof of a campaign's figures of a day: the events they were counted from, and those that were left out, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from itertools import product
from uuid import UUID

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.generate_daily_reports import FIGURES, GENERATE_DAILY_REPORTS, recount_campaign
from mauntic_jobs.ops.figures.history import FigureChange, read_changes
from mauntic_jobs.ops.figures.known import check_campaign
from mauntic_jobs.ops.figures.lineage import Lineage, Provenance, RebuildingRun
from mauntic_jobs.ops.figures.rollups import MESSAGE_CHANNELS, channel_of
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import CampaignChannels
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Unit, Window, naive

_KINDS = ("sent", "delivered", "opened", "clicked", "bounced", "complained", "unsubscribed")
_MESSAGE_TYPES = ["_".join(pair) for pair in product(MESSAGE_CHANNELS, _KINDS)]
# Free texts as sources may be many; those with most events are told of.
_MAX_SOURCES = 200

_sql = statements("figure_proof")


class Attribution(StrEnum):
    """Whether events count for the campaign, or why not."""

    COUNTED = "counted"
    OTHER_CHANNEL = "other channel"
    NO_MESSAGE = "no message event"
    OTHER_FORM = "other form"
    NO_SOURCE = "no source"
    NO_CAMPAIGN = "no campaign"
    OTHER_CAMPAIGN = "other campaign"


_BY_RELATION = {
    "no message": Attribution.NO_MESSAGE,
    "another form": Attribution.OTHER_FORM,
    "missing": Attribution.NO_SOURCE,
    "none": Attribution.NO_CAMPAIGN,
    "another": Attribution.OTHER_CAMPAIGN,
}


@dataclass(frozen=True)
class EventGroup:
    """Events of one type and source; the sources of other campaigns are one group. `examples` are the earliest ids."""

    attribution: Attribution
    event_type: str
    source: str | None
    events: int
    contacts: int
    examples: Sequence[UUID]


@dataclass(frozen=True)
class FoundLate:
    """Events of the day, of the whole organization, that a look at `found_at` found to have come late."""

    found_at: datetime
    events: int


@dataclass(frozen=True)
class CampaignExplanation:
    """A campaign's figures of a day: as recorded, as counted now, None for no row; and all events that may be meant.

    `channel` is the one that is counted, None if there are no events, `all` if all are.
    """

    campaign_id: UUID
    organization_id: UUID
    date: date
    over: bool
    channel: str | None
    recorded: Mapping[str, int] | None
    counted: Mapping[str, int] | None
    withheld: str | None
    groups: Sequence[EventGroup]
    late: Sequence[FoundLate]
    runs: Sequence[RebuildingRun]
    written: Provenance
    changes: Sequence[FigureChange]

    @property
    def agrees(self) -> bool:
        """Whether what is recorded is what was counted."""
        return self.recorded == self.counted

    def differences(self) -> list[str]:
        """Return the names of the figures that differ."""
        old, new = self.recorded or {}, self.counted or {}
        return [name for name in FIGURES if old.get(name) != new.get(name)]


def explain_campaign(
    session: Session, settings: Settings, campaign: UUID, organization: UUID | None, day: Window | None, now: datetime
) -> CampaignExplanation:
    """Return how the figures of a day, by default the latest that has some, came about; nothing is written.

    Raises UsageError for an unknown campaign, and for one of several organizations if none is named.
    """
    looked = day or Window.before(now, Unit.DAY)
    owner = _owner(session, settings, campaign, organization, looked)
    if day is None:
        latest = session.row(_sql["latest_day"], {"campaign": campaign, "organization": owner})["day"]
        day = looked if latest is None else _day(latest)
    zone = settings.platform_zone
    asked = {
        "campaign": campaign,
        "organization": owner,
        "day": day.start.date(),
        "start": naive(day.start, zone),
        "end": naive(day.end, zone),
        "types": _MESSAGE_TYPES,
        "limit": _MAX_SOURCES,
    }
    limits = Limits("mauntic-jobs explain", settings.statement_timeout, work_mem=settings.work_mem)
    with session.rehearsal(limits):
        row = recount_campaign(session, settings, day, owner, campaign) or {}
        sources = session.rows(_sql["sources"], asked)
        late = session.rows(_sql["late"], asked)
    lineage = Lineage(session, GENERATE_DAILY_REPORTS, settings, day, owner, campaign)
    channel = _counted_channel(sources, settings)
    return CampaignExplanation(
        campaign_id=campaign,
        organization_id=owner,
        date=day.start.date(),
        over=day.end <= now,
        channel=channel,
        recorded=row.get("old"),
        counted=row.get("new"),
        withheld=row.get("withheld"),
        groups=[_group(each, channel) for each in sources],
        late=[FoundLate(**each) for each in late],
        runs=lineage.runs(day.start.date(), owner, campaign),
        written=lineage.of(day.start.date(), owner, str(campaign), campaign),
        changes=read_changes(session, GENERATE_DAILY_REPORTS, day, owner, str(campaign)),
    )


def _owner(session: Session, settings: Settings, campaign: UUID, organization: UUID | None, day: Window) -> UUID:
    zone = settings.platform_zone
    asked = {
        "campaign": campaign,
        "organization": organization,
        "start": naive(day.start, zone),
        "end": naive(day.end, zone),
    }
    rows = session.rows(_sql["owners"], asked) or session.rows(_sql["senders"], asked)
    if len(rows) > 1:
        names = ", ".join(str(row["organization_id"]) for row in rows)
        raise UsageError(f"{len(rows)} organizations have the campaign {campaign}: say which with --org, of {names}.")
    if rows:
        return UUID(str(rows[0]["organization_id"]))
    check_campaign(session, campaign, day, zone)
    if organization is not None:
        raise UsageError(f"Organization {organization} has neither figures of campaign {campaign} nor events on {day}.")
    raise UsageError(f"The campaign {campaign} has no figures, and no events on {day}: name another day with --date.")


def _day(latest: date) -> Window:
    start = datetime(latest.year, latest.month, latest.day, tzinfo=UTC)
    return Window(start, Unit.DAY.after(start))


def _counted_channel(sources: Sequence[Row], settings: Settings) -> str | None:
    """Return the channel that the job counts: the first of its order that the campaign has events of."""
    if settings.campaign_channels is CampaignChannels.ALL:
        return "all"
    seen = {channel_of(row["event_type"]) for row in sources if row["relation"] == "names"}
    return next((channel for channel in MESSAGE_CHANNELS if channel in seen), None)


def _group(row: Row, channel: str | None) -> EventGroup:
    attribution = _BY_RELATION.get(row["relation"])
    if attribution is None:
        counted = channel in ("all", channel_of(row["event_type"]))
        attribution = Attribution.COUNTED if counted else Attribution.OTHER_CHANNEL
    return EventGroup(
        attribution=attribution,
        event_type=row["event_type"],
        source=row["event_source"],
        events=row["events"],
        contacts=row["contacts"],
        examples=row["examples"],
    )
