"""JSON of explanations of figures."""

from datetime import date
from uuid import UUID

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.cli.documents.figures import FigureChangeJson, WrittenJson
from mauntic_jobs.cli.documents.runs import WindowJson
from mauntic_jobs.ops.figures.campaign_proof import Attribution


class RebuildingRunJson(TypedDict):
    """A run that rebuilt a figure, and whether it changed any of its day or month."""

    run: int
    at: AwareDatetime
    changed: bool


class EventGroupJson(TypedDict):
    """Events of one type and source that count for a campaign, or why they do not.

    `examples` are the ids of the earliest three. The sources of other campaigns are one group, whose source is null.
    """

    attribution: Attribution
    event_type: str
    source: str | None
    events: int
    contacts: int
    examples: list[UUID]


class FoundLateJson(TypedDict):
    """Events of the organization's day that were found late."""

    found_at: AwareDatetime
    events: int


class CampaignExplanationJson(WrittenJson):
    """How a campaign's figures of a day came about.

    `recorded` and `counted` are figures by name, null for none; `agrees`: they are the same. `channel` is the one that
    the row counts, or `all`, null without events. `withheld` is why runs do not write what was counted. `over`: the day
    has ended. `groups` are the 200 with most events.
    """

    campaign_id: UUID
    organization_id: UUID
    date: date
    over: bool
    channel: str | None
    agrees: bool
    withheld: str | None
    recorded: dict[str, int] | None
    counted: dict[str, int] | None
    groups: list[EventGroupJson]
    late: list[FoundLateJson]
    runs: list[RebuildingRunJson]
    changes: list[FigureChangeJson]


class UsageTypeJson(TypedDict):
    """Usage of one event type: `events` and `contacts` as recorded, `counted_*` as a recount says, null for none.

    `rollup_events` is the sum of the daily rollups. The first and the last event are by time, then by id.
    """

    event_type: str
    events: int | None
    contacts: int | None
    counted_events: int | None
    counted_contacts: int | None
    rollup_events: int
    agrees: bool
    withheld: str | None
    first_id: UUID | None
    first_at: AwareDatetime | None
    last_id: UUID | None
    last_at: AwareDatetime | None


class UsageDayJson(TypedDict):
    """Events of one type on one day, as found and as the daily rollup has them."""

    date: date
    event_type: str
    events: int
    rollup_events: int
    first_id: UUID | None
    first_at: AwareDatetime | None
    last_id: UUID | None
    last_at: AwareDatetime | None


class UsageExplanationJson(WrittenJson):
    """How an organization's usage of a month came about. `agrees`: all that is recorded is what a recount says."""

    organization_id: UUID
    window: WindowJson
    over: bool
    agrees: bool
    types: list[UsageTypeJson]
    days: list[UsageDayJson]
    runs: list[RebuildingRunJson]
    changes: list[FigureChangeJson]
