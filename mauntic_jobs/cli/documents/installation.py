"""JSON of the installation: settings, database, development servers, checks, upkeep and recovery."""

from typing import NotRequired
from uuid import UUID

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.cli.documents.deliveries import IncompleteCampaignJson
from mauntic_jobs.ops.doctor.finding import FindingSeverity


class SettingJson(TypedDict):
    """An effective setting. `value` is as in a file, secrets masked; `variable` is its name in the environment."""

    setting: str
    value: object
    origin: str
    variable: str
    meaning: str | None


class DatabasePartJson(TypedDict):
    """A migration, which is `applied` or `pending`, or an index, which is `present`, `missing` or `invalid`."""

    part: str
    state: str


class DatabaseJson(TypedDict):
    """How far the database is; `duplicates` counts by table the rows that `db upgrade` would move."""

    current: bool
    parts: list[DatabasePartJson]
    duplicates: dict[str, int]


class PrunedPartJson(TypedDict):
    """How many rows of a part were removed, or would be; `older_than` is a length of time such as `90d`."""

    part: str
    older_than: str
    rows: int


class PrunedJson(TypedDict):
    """What was removed, or would be with `dry_run`."""

    dry_run: bool
    parts: list[PrunedPartJson]


class ServersJson(TypedDict):
    """The development servers. Their addresses, their directory and their process are there while they run."""

    running: bool
    database_url: NotRequired[str]
    redis_url: NotRequired[str]
    directory: NotRequired[str]
    pid: NotRequired[int]


class CheckJson(TypedDict):
    """A finding; `to_do` is empty where there is nothing to do."""

    area: str
    check: str
    severity: FindingSeverity
    what: str
    to_do: str


class DoctorJson(TypedDict):
    """Checks of the installation, and how many of each severity."""

    error: int
    warning: int
    not_checked: int
    ok: int
    findings: list[CheckJson]


class PublishedJson(TypedDict):
    """Jobs that were put on their queues, jobs that are no longer wanted, and those that found no room.

    `left` counts up to 100,000.
    """

    published: int
    dropped: int
    left: int


class LossJson(TypedDict):
    """A loss of Redis' data: nothing was lost before `since`; `kept_until` is null if Redis was emptied."""

    since: AwareDatetime
    kept_until: AwareDatetime | None
    noticed_at: AwareDatetime


class JourneyUnderWayJson(TypedDict):
    """A journey with active executions that have moved; only the platform's executor can queue their next steps."""

    organization_id: UUID
    journey_id: UUID
    journey: str | None
    executions: int


class RecoveryJson(TypedDict):
    """What was put back into Redis, or would be with `dry_run`.

    `messages` of the `owed` ones and `executions` of the `unmoved` ones had no job. `lost` messages are given up:
    Redis had the only copy. `sending` messages are still being sent. `schedulers` are jobs whose BullMQ job scheduler
    was gone. `campaigns` and `journeys` are what only Redis knew.
    """

    dry_run: bool
    loss: LossJson | None
    owed: int
    messages: int
    lost: int
    sending: int
    unmoved: int
    executions: int
    schedulers: list[str]
    campaigns: list[IncompleteCampaignJson]
    journeys: list[JourneyUnderWayJson]
