"""JSON of the figures that the jobs recorded."""

from datetime import date
from uuid import UUID

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.jobs.rollup import ChangeReason


class WrittenJson(TypedDict):
    """Who wrote a figure: `run` rebuilt it last, at `run_at`; `changed_run` changed it last, at `changed_at`.

    What the ledger of runs does not know is null.
    """

    run: int | None
    run_at: AwareDatetime | None
    changed_run: int | None
    changed_at: AwareDatetime | None


class FigureChangeJson(TypedDict):
    """A figure that a run changed, and why; `old` is null for a row that was new, `new` for one that was removed.

    `bucket` is the day, or the first of the month; `kind` the event type as it is recorded, or the campaign's id.
    """

    changed_at: AwareDatetime
    run: int
    reason: ChangeReason
    organization_id: UUID
    bucket: date
    kind: str
    figure: str
    old: int | None
    new: int | None


class RollupFigureJson(WrittenJson):
    """Events of a day, or with --by a sum of them: what was summed over is null.

    `contacts` are the distinct ones of one organization, day and type; null for a sum, since they cannot be added up.
    """

    organization_id: UUID | None
    date: date | None
    channel: str | None
    event_type: str | None
    events: int
    contacts: int | None


class CampaignFigureJson(WrittenJson):
    """Figures of a campaign on a day. `unique_opened` and `unique_clicked` are distinct contacts."""

    campaign_id: UUID
    organization_id: UUID
    date: date
    sent: int
    delivered: int
    opened: int
    unique_opened: int
    clicked: int
    unique_clicked: int
    bounced: int
    complained: int
    unsubscribed: int


class UsageFigureJson(WrittenJson):
    """Usage of an organization: events and distinct contacts of a type in the month that begins on `month`."""

    organization_id: UUID
    month: date
    channel: str
    event_type: str
    events: int
    contacts: int


class JourneyFigureJson(WrittenJson):
    """Entries into a journey, by how they stand; `entered_at` is the last of them.

    `run` evaluated the journey's segments last, `changed_run` was the last that let contacts enter any journey.
    """

    journey_id: UUID
    organization_id: UUID
    name: str
    entered: int
    active: int
    completed: int
    failed: int
    canceled: int
    entered_at: AwareDatetime
