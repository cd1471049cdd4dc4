"""JSON of the delivery ledger."""

from datetime import date
from typing import NotRequired
from uuid import UUID

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.delivery.sending.outcome import Blame, RejectReason, Verdict


class DeliveryJson(TypedDict):
    """A delivery in a list.

    `until`: sending: when the lease ends; deferred: not before; ambiguous: when it is sent again, null if a human
    decides. `attempts` counts exchanges with providers. `blame` is what the last refusal is about, or the class that
    the provider's API has for it. `address` is masked unless --reveal is given.
    """

    delivery_id: str
    organization_id: UUID
    channel: str
    state: State
    address: str | None
    until: AwareDatetime | None
    updated_at: AwareDatetime
    possible_duplicate: bool
    attempts: int
    blame: str | None
    reason: str | None


class DeliveryCountJson(TypedDict):
    """How many deliveries of a channel are in a state; of those that were sent, in the last 24 hours."""

    channel: str
    state: State
    deliveries: int
    oldest: AwareDatetime
    latest: AwareDatetime


class AttemptJson(TypedDict):
    """One exchange with a provider. `queue_id` is the id that an SMTP server gave the message."""

    provider: str
    started: AwareDatetime
    seconds: float
    outcome: Verdict
    reason: str
    blame: NotRequired[Blame]
    queue_id: NotRequired[str]


class OmittedJson(TypedDict):
    """How many attempts the ledger has left out between the first and the last."""

    omitted: int


class EventJson(TypedDict):
    """A row of delivery.delivery_events about a delivery."""

    event_type: str | None
    provider_message_id: str | None
    metadata: object
    created_at: AwareDatetime | None


class DeliveryDetailJson(TypedDict):
    """Everything that the ledger holds about a delivery, with the platform's events.

    `job_id` is the row of delivery.delivery_jobs that counts it, `queue_job` the BullMQ job that last asked for it.
    `fence` rises with each claim. `payload` is what was asked for, kept from the first result on until it is sent, and
    masked unless --reveal is given. `unrecorded` is a result whose events Postgres refused. `address_hash` stands for
    an address that was pruned. `unsent_state`, `unsent_at`, `owner` and `counted` are internal.
    """

    organization_id: UUID
    owner: UUID
    job_id: UUID | None
    contact_id: UUID | None
    provider_id: UUID | None
    created_at: AwareDatetime
    claimed_at: AwareDatetime
    sending_at: AwareDatetime | None
    first_sending_at: AwareDatetime | None
    fence: int
    resends: int
    possible_duplicate: bool
    delivery_id: str
    channel: str
    queue_job: str
    campaign_id: str | None
    address: str | None
    message_id: str | None
    domain: str | None
    unknown_fields: list[str] | None
    provider: str | None
    updated_at: AwareDatetime
    until: AwareDatetime | None
    counted: bool
    state: State
    unsent_state: State | None
    unsent_at: AwareDatetime | None
    reason: str | None
    reject_reason: RejectReason | None
    provider_message_id: str | None
    attempts: list[AttemptJson | OmittedJson]
    payload: dict[str, object] | None
    unrecorded: dict[str, object] | None
    address_hash: str | None
    events: list[EventJson]


class IncompleteCampaignJson(TypedDict):
    """A campaign with messages missing: `known` to the ledger and `queued` are fewer than `recipient_count`."""

    id: UUID
    organization_id: UUID
    channel: str | None
    created_at: AwareDatetime | None
    recipient_count: int
    known: int
    queued: int


class ReconciledJson(TypedDict):
    """What was put right: `queued` of the `owed` deliveries had no job.

    `lost` ones were given up, because only their producer has the content. `interrupted` were being sent by a process
    that died, `sending` still are. `recorded` results had been refused by Postgres, and `refused` still are. `closed`
    counts campaigns.
    """

    owed: int
    queued: int
    lost: int
    interrupted: int
    sending: int
    recorded: int
    refused: int
    closed: int
    missing: list[IncompleteCampaignJson]


class UnsentKindJson(TypedDict):
    """Messages whose reasons are the same but for numbers, ids and addresses."""

    deliveries: int
    without_content: int
    fingerprint: str
    reason: str


class UnsentJson(TypedDict):
    """What would be sent again, counted under the name of the state that was asked for."""

    failed: NotRequired[int]
    expired: NotRequired[int]
    without_content: int
    reasons: list[UnsentKindJson]


class RefusalJson(TypedDict):
    """Why messages were not put on their queues, and how many."""

    reason: str
    deliveries: int


class ResentJson(TypedDict):
    """What became of messages that were to be sent again. Those without content cannot be."""

    queued: int
    refused: int
    without_content: int
    reasons: list[RefusalJson]


class RestrictionJson(TypedDict):
    """What is held back: with a `rate` of 0 nothing is sent, else so many messages a second at most.

    What is null is not chosen by: without all four it holds for all messages. Without `until` it holds until it is
    ended.
    """

    id: int
    organization_id: UUID | None
    channel: str | None
    provider_id: UUID | None
    campaign_id: str | None
    rate: float
    why: str
    set_by: str
    since: AwareDatetime
    until: AwareDatetime | None
    ended_at: AwareDatetime | None
    ended_by: str | None


class TurnWeightJson(TypedDict):
    """An organization that has `weight` turns for each one of an organization without a weight."""

    organization_id: UUID
    weight: float
    why: str
    set_by: str
    since: AwareDatetime


class ExplanationJson(TypedDict):
    """Where a delivery is and why: `before` messages of its organization go out first, in about `seconds`.

    `state` is the ledger's, or says where its job stands: `in hand`, `waiting`, `held`, `delayed`, `dead letter` or
    `done`. `command` shows more, or puts it right.
    """

    delivery: str
    organization: UUID | None
    channel: str
    state: str
    because: str
    queue_job: str | None
    before: int | None
    seconds: float | None
    until: AwareDatetime | None
    command: str | None


class PlannedDayJson(TypedDict):
    """A day of a warm-up, by UTC, the domain's `number`th: its limit at first, and how much of what waits goes out."""

    day: date
    number: int
    limit: int
    goes_out: int


class WarmupPlanJson(TypedDict):
    """A sending domain that is being warmed up: messages sent today, and how many it may send at present.

    `waiting` messages wait for its next day; the last of them goes out on the day `ends`, null where none waits. `days`
    are from today to the last one with a limit.
    """

    domain: str
    organization: UUID
    created: AwareDatetime
    sent: int
    limit: int
    waiting: int
    ends: date | None
    days: list[PlannedDayJson]
