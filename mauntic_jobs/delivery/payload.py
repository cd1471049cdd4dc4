"""Payloads of the delivery queues: three kinds, read as one message."""

import re
from functools import cached_property
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mauntic_jobs.delivery.addresses import INVISIBLE
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.settings.types import MessageLimits

LONGEST_ID = 255

# Postgres cannot hold them in jsonb, and no author means them.
_UNSTORABLE = re.compile(r"\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class MalformedError(JobFailedError):
    """A job that can never be delivered, because of what it says or leaves out."""


def _present(value: object) -> object:
    """Return None for a text that is empty or blank, which producers write for what they do not have."""
    # Without a call of `trimmed`: most fields of each message come here.
    return None if isinstance(value, str) and not value.strip(INVISIBLE) else value


_T = TypeVar("_T")
# Absent, null, empty and blank all mean that there is none.
Given = Annotated[_T | None, BeforeValidator(_present)]
Id = Annotated[str, Field(max_length=LONGEST_ID)]


class Message(BaseModel):
    """A message as it was asked for. Fields that are not known are kept in the ledger, and mean nothing here."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True, coerce_numbers_to_str=True)

    organization_id: UUID = Field(alias="organizationId")
    delivery_id: Given[Id] = Field(None, alias="deliveryId")
    idempotency_key: Given[Id] = Field(None, alias="idempotencyKey")
    channel: Given[str] = None
    job_id: Given[UUID] = Field(None, alias="jobId")
    contact_id: Given[UUID] = Field(None, alias="contactId")
    campaign_id: Given[Id] = Field(None, alias="campaignId")
    transactional: object = None
    journey_execution_id: Given[object] = Field(None, alias="journeyExecutionId")
    email_address: Given[str] = Field(None, alias="emailAddress")
    phone_number: Given[str] = Field(None, alias="phoneNumber")
    device_token: Given[str] = Field(None, alias="deviceToken")
    sender: Given[str] = Field(None, alias="from")
    reply_to: Given[str] = Field(None, alias="replyTo")
    subject: str | None = None
    title: str | None = None
    body: str | None = None
    html: str | None = None
    text: str | None = None
    template_id: Given[UUID] = Field(None, alias="templateId")
    template_data: Given[dict[str, object]] = Field(None, alias="templateData")
    data: Given[dict[str, object]] = None
    badge: Given[int] = None
    headers: Given[dict[str, str | None]] = None
    unsubscribe_url: Given[str] = Field(None, alias="unsubscribeUrl")

    @cached_property
    def key(self) -> str:
        """The id of the delivery: a journey step's is its idempotency key."""
        return self.delivery_id or self.idempotency_key or ""

    @cached_property
    def organization(self) -> str:
        """The organization's id as text."""
        # Written a dozen times for each message, and slow to write.
        return str(self.organization_id)

    @property
    def is_urgent(self) -> bool:
        """Whether its turn comes before those of campaigns: a transactional message, or a step of a journey."""
        return self.is_transactional or self.journey_execution_id is not None

    @property
    def is_transactional(self) -> bool:
        """Whether the recipient gets it even after unsubscribing: only if the payload says so by a JSON `true`."""
        return self.transactional is True


def read_message(raw: str, channel: str, limits: MessageLimits) -> tuple[Message, str, str]:
    """Return the message of a job's data, its channel (the queue's, unless it names another), and the data to keep.

    Raises MalformedError that says what is wrong, without repeating the data.
    """
    if len(raw) > limits.payload:
        limit = f"limit {limits.payload:,}, setting message_limits.payload"
        raise MalformedError(f"the data is {len(raw):,} characters long ({limit})")
    if ("\\u" in raw and _UNSTORABLE.search(raw)) or "NaN" in raw or "Infinity" in raw:
        raw = _storable(raw)
    try:
        message = Message.model_validate_json(raw)
    except ValidationError as error:
        raise MalformedError(_explained(error)) from None
    if not message.key:
        raise MalformedError("the data has neither deliveryId nor idempotencyKey")
    name = message.channel or channel
    if name not in CHANNELS:
        raise MalformedError(f"there is no channel {name!r}: it is one of {', '.join(CHANNELS)}")
    return message, name, raw


def _storable(raw: str) -> str:
    """Write pairs of surrogates as the character they are; refuse what is none, NUL, and NaN and the like."""
    import json

    try:
        text = json.dumps(json.loads(raw), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (ValueError, RecursionError):
        raise MalformedError("the data is not JSON, or holds half a character or what is not a number") from None
    if _NUL.search(text):
        raise MalformedError("the data holds a NUL character, which Postgres cannot store")
    return text


def _explained(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_input=False, include_url=False)[:5]:
        place = ".".join(str(part) for part in problem["loc"])
        problems.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    return "the data cannot be read: " + "; ".join(problems)
