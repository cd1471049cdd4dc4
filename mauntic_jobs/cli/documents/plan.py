"""JSON of the plan of a backfill: a file that is applied as it is, or not at all."""

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.backfill.coverage import BucketState
from mauntic_jobs.backfill.plan import Reprocess
from mauntic_jobs.cli.documents.runs import WindowJson

PlanSchema = Literal["mauntic-jobs/backfill-plan/1"]


class DatabaseIdJson(TypedDict):
    """Which database the plan is for: the identifier of its server, and its name."""

    system: str
    name: str


class FingerprintJson(TypedDict):
    """Checksums of what is to be recorded of a window, and of what is recorded: the plan is outdated with others."""

    input: str
    target: str


class PlannedGroupJson(TypedDict):
    """A group that changes: `type` is an event type, or a campaign's id. `withheld` is why it would stay as it is."""

    organization_id: UUID
    type: str
    present: int
    future: int
    withheld: str | None


class WithheldTotalsJson(TypedDict):
    """How many groups the shrink guard would withhold, with the events recorded in them, and those counted."""

    groups: int
    present: int
    counted: int


class WindowPreviewJson(TypedDict):
    """What the rebuild of a window would do: `events` are counted, the rows add up to `present`, then to `future`.

    `largest` are the ten groups that change most. `seconds` is an estimate by the ledger, null where it has no run.
    """

    events: int
    present: int
    future: int
    withheld: WithheldTotalsJson
    largest: list[PlannedGroupJson]
    seconds: float | None
    fingerprint: FingerprintJson


class PlannedWindowJson(TypedDict):
    """A window: how it was `found` to stand, and why it is left out, if it is `skipped`; then it has no `preview`."""

    window: WindowJson
    found: BucketState
    reason: str
    skipped: str | None
    preview: WindowPreviewJson | None


class BackfillPlanJson(TypedDict):
    """A plan. `digest` is the SHA-256 of everything else, so that a plan that was edited is noticed.

    `windows` are in the order in which they are run.
    """

    schema: PlanSchema
    digest: str
    version: str
    made_at: AwareDatetime
    database: DatabaseIdJson
    job: str
    options: dict[str, object]
    reprocess: list[Reprocess]
    newest_first: bool
    parallel: int
    stop_after_failures: int
    seconds: float | None
    windows: list[PlannedWindowJson]
