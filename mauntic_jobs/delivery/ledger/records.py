"""Claims and results, as the ledger's functions in Postgres take them and answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from pydantic_core import to_json

from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.sending.outcome import RejectReason
from mauntic_jobs.job import Row
from mauntic_jobs.stores.bullmq.commands import printable_id
from mauntic_jobs.warmup.quota import Allowance


class State(StrEnum):
    """The fates of a delivery; those before `SENT` and `AMBIGUOUS` may still change by themselves."""

    CLAIMED = "claimed"
    SENDING = "sending"
    DEFERRED = "deferred"
    AMBIGUOUS = "ambiguous"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"


# A dictionary is quicker than the class.
_STATES = {str(each): each for each in State}
_WITHOUT_PAYLOAD = (State.SENT, State.SUPPRESSED)


class Claim(NamedTuple):
    """A delivery to claim. `ready`: it may be sent at once.

    `written` is the address as it was given, where that differs. `allowance` is what its domain may send, None for no
    limit. `unknown_fields` are those of its template that neither the message nor the contact has.
    """

    message: Message
    channel: str
    queue_job: str
    address: str | None = None
    written: str | None = None
    provider_id: UUID | None = None
    provider: str | None = None
    message_id: str | None = None
    ready: bool = False
    allowance: Allowance | None = None
    unknown_fields: Sequence[str] = ()


class Claimed(NamedTuple):
    """How the delivery stands afterwards. Only if `granted` it is the caller's, with that fence.

    It must not be sent if there is a `refusal`, the reason why the recipient must not get it, nor if it is `over` the
    number of messages that its domain may send. `wait` is how many seconds are left until it changes by itself; `held`
    means that it will not. `has_payload`: the ledger has its content, as it has after a first result.
    """

    granted: bool
    state: State | None
    fence: int
    refusal: str | None
    over: bool
    message_id: str | None
    possible_duplicate: bool
    reason: str | None
    held: bool
    wait: float | None
    has_payload: bool = True


class Result(NamedTuple):
    """What became of a claimed delivery. `wait` is in seconds; `hold`: a human decides about what is ambiguous.

    `payload` is the job's data as JSON, kept of all that is neither sent nor suppressed; None leaves what is kept.
    `elsewhere`: the Node engine has finished and counted it; `tried_elsewhere`: it may have counted a failure.
    """

    message: Message
    fence: int
    state: State
    reason: str | None = None
    wait: float | None = None
    provider_id: UUID | None = None
    provider: str | None = None
    provider_message_id: str | None = None
    attempts: Sequence[dict[str, object]] = ()
    reject: RejectReason | None = None
    elsewhere: bool = False
    tried_elsewhere: bool = False
    hold: bool = False
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """How the delivery stands afterwards; `fresh` if this result is what changed it."""

    fresh: bool
    state: State | None
    held: bool
    wait: float | None


def claim_json(n: int, claim: Claim, owner: str) -> bytes:
    """Return a claim, the n-th of a batch, as a JSON object; `owner` is a UUID."""
    message = claim.message
    fields = {
        "n": n,
        "organization_id": message.organization_id,
        "delivery_id": message.key,
        "channel": claim.channel,
        "job_id": message.job_id,
        "contact_id": message.contact_id,
        "address": claim.address,
        "written": claim.written,
        "queue_job": printable_id(claim.queue_job),
        "provider_id": claim.provider_id,
        "provider": claim.provider,
        "message_id": claim.message_id,
        "campaign_id": message.campaign_id,
        "owner": owner,
        "ready": claim.ready,
        "transactional": message.is_transactional,
        "unknown_fields": claim.unknown_fields or None,
    }
    if claim.allowance:
        # The claim looks for `most` before it locks a domain.
        allowance = claim.allowance
        fields |= {"domain": allowance.domain, "most": allowance.most, "day": allowance.start}
    return to_json(fields)


def result_json(n: int, result: Result) -> bytes:
    """Return a result, the n-th of a batch, as a JSON object."""
    fields = {
        "n": n,
        "organization_id": result.message.organization_id,
        "delivery_id": result.message.key,
        "fence": result.fence,
        "state": result.state,
        "reason": result.reason,
        "wait": result.wait,
        "provider_id": result.provider_id,
        "provider": result.provider,
        "provider_message_id": result.provider_message_id,
        "attempts": result.attempts or None,
        "reject": result.reject,
        "elsewhere": result.elsewhere,
        "tried_elsewhere": result.tried_elsewhere,
        "hold": result.hold,
    }
    if result.payload is None or result.state in _WITHOUT_PAYLOAD:
        return to_json(fields)
    # The payload is JSON already, and by far the longest.
    return to_json(fields)[:-1] + b',"payload":' + result.payload.encode() + b"}"


def claimed(row: Row) -> Claimed:
    """Return the answer to a claim."""
    return Claimed(
        granted=row["granted"],
        state=_STATES[row["state"]] if row["state"] else None,
        fence=row["fence"] or 0,
        refusal=row["refusal"],
        over=row["over"],
        message_id=row["message_id"],
        possible_duplicate=bool(row["possible_duplicate"]),
        reason=row["reason"],
        held=bool(row["held"]),
        wait=row["wait_seconds"],
        has_payload=bool(row["has_payload"]),
    )


def recorded(row: Row) -> Recorded:
    """Return the answer to a result."""
    state = _STATES[row["state"]] if row["state"] else None
    return Recorded(row["recorded"], state, bool(row["held"]), row["wait_seconds"])
