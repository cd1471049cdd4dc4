"""The kinds of values that settings have, and those of single jobs and channels."""

import re
import ssl
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationInfo

from mauntic_jobs.errors import UsageError
from mauntic_jobs.settings.alert_channels import HttpAddress
from mauntic_jobs.settings.frequency_cap import FrequencyCap
from mauntic_jobs.settings.quiet_hours import QuietHours
from mauntic_jobs.timekeeping.catch_up import CatchUp, parse_catch_up
from mauntic_jobs.timekeeping.cron import check_cron
from mauntic_jobs.timekeeping.window import parse_duration


def _text(parse: Callable[[str], object]) -> BeforeValidator:
    """Let a field be written as a text that `parse` reads."""

    def read(value: object) -> object:
        try:
            return parse(value) if isinstance(value, str) else value
        except UsageError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read)


# The context of values that the ledger of runs holds as JSON: lengths of time are those of ISO 8601, such as PT1H.
LEDGER = "ledger"


def _read_duration(value: object, info: ValidationInfo) -> object:
    try:
        return parse_duration(value) if isinstance(value, str) and info.context != LEDGER else value
    except UsageError as error:
        raise ValueError(str(error)) from None


Duration = Annotated[timedelta, BeforeValidator(_read_duration)]
PositiveDuration = Annotated[Duration, Field(gt=timedelta())]


def _divides_an_hour(value: timedelta) -> timedelta:
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    if value < minute or value % minute or hour % value:
        raise ValueError("it must be whole minutes of which an hour is a multiple, such as 1m, 5m, 15m or 1h")
    return value


WatchInterval = Annotated[Duration, AfterValidator(_divides_an_hour)]
AutoPause = Annotated[Literal["on", "off"] | PositiveDuration, Field(union_mode="left_to_right")]
Retention = Annotated[Duration, Field(ge=timedelta(days=1))]


class ScheduledShrink(StrEnum):
    """Which recorded values a scheduled run may lower by itself: none, or those of organizations that are gone."""

    NONE = "none"
    GONE_ORGANIZATIONS = "gone_organizations"


class CampaignChannels(StrEnum):
    """Which channels a row of a campaign's figures counts: one, which is email where there is any, or all."""

    ONE = "one"
    ALL = "all"


class SegmentReading(StrEnum):
    """How the criteria of a segment are read: as they are documented, or as the platform's own count reads them."""

    STRICT = "strict"
    PLATFORM = "platform"


class JobSettings(BaseModel):
    """When one job runs, how it is tried again, and who hears of it; what is absent follows the job, or all jobs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_attempts: PositiveInt | None = None
    retry_delay: Annotated[Duration, Field(ge=timedelta())] | None = None
    cron: Annotated[str, _text(check_cron)] | None = None
    catch_up: Annotated[CatchUp, _text(parse_catch_up)] | None = None
    heartbeat_url: HttpAddress | None = None
    sentry_monitor: Annotated[str, Field(pattern=r"^[\w-]+$")] | None = None


def _read_by(read: Callable[[str], object]) -> AfterValidator:
    """Refuse a text that `read` does not."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


class ChannelSettings(BaseModel):
    """How one delivery channel is worked on; what is absent follows the channel, or the platform's policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: str | None = Field(None, min_length=1)
    prefix: str | None = Field(None, min_length=1)
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    retry_delay: Annotated[Duration, Field(ge=timedelta())] | None = None
    quiet_hours: Annotated[str, _read_by(QuietHours.read)] | None = None
    frequency_cap: Annotated[str, _read_by(FrequencyCap.read)] | None = None


class MessageLimits(BaseModel):
    """How much one message may be: characters of a job's data, and of what a template becomes; steps of a template."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    payload: Annotated[int, Field(ge=1_024, le=16_777_216)] = 524_288
    template_output: Annotated[int, Field(ge=1_024, le=16_777_216)] = 1_000_000
    template_steps: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000


class DeadLetterLimits(BaseModel):
    """How many dead letters a queue may have, how many that came within `window`, and how old the oldest may be.

    With `where`, a condition as `dlq list` takes it, only the letters that it holds for count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: str | None = Field(None, min_length=1)
    depth: Annotated[int, Field(ge=0)] = 100
    growth: Annotated[int, Field(ge=0)] = 20
    window: PositiveDuration = timedelta(hours=1)
    age: Annotated[Duration, Field(ge=timedelta())] = timedelta(hours=24)


def _with_all_letters(limits: list[DeadLetterLimits]) -> list[DeadLetterLimits]:
    """Put the limits of all letters first, by default those that are usual."""
    conditions = [each.where for each in limits]
    if len(set(conditions)) < len(conditions):
        raise ValueError("each must have another condition (where), and one at most none")
    return limits if None in conditions else [DeadLetterLimits(), *limits]


def _networks(text: str) -> str:
    for network in text.split(","):
        if network.strip():
            ip_network(network.strip())
    return text


def _recipients(text: str) -> str:
    for recipient in recipients_of(text):
        if not re.fullmatch(r"[^\s,]*[^\s,@+][^\s,]*", recipient):
            raise ValueError("each must be a domain, an email address, a number with a +, or a device token")
    return text


def _redirections(text: str) -> str:
    for recipient in recipients_of(text):
        if not re.fullmatch(r"[^\s,@]+@[^\s,@]+|\+[0-9]{5,15}", recipient):
            raise ValueError("each must be an email address, or a number with a +")
    return text


def recipients_of(text: str) -> list[str]:
    """Return the recipients of a text that names them, separated by commas."""
    return [each.strip() for each in text.split(",") if each.strip()]


def _address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError("it must be like https://api.example.com")
    return text


def _certificates(file: Path) -> Path:
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError):
        raise ValueError("it must be a file that can be read, with certificates in PEM") from None
    return file


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, OSError):
        raise ValueError("it must be a time zone like Europe/Berlin") from None
    return text


LimitsOfDeadLetters = Annotated[list[DeadLetterLimits], AfterValidator(_with_all_letters)]
# Networks like `10.1.0.0/16, fd00::/8`.
Networks = Annotated[str, AfterValidator(_networks)]
# Recipients like `acme.test, ann@example.com, +15005550006`, and those that others' messages go to.
Recipients = Annotated[str, AfterValidator(_recipients)]
Redirections = Annotated[str, AfterValidator(_redirections)]
ApiAddress = Annotated[str, AfterValidator(_address)]
# A host name, or an address in brackets, as EHLO has it.
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\[][A-Za-z0-9._:\]-]{0,254}$")]
CertificateFile = Annotated[Path, AfterValidator(_certificates)]
# Submission and relay, and the other ports on which public mail services take them.
MAIL_PORTS = (25, 26, 465, 587, 588, 2465, 2525, 2587, 8025, 8465)
Ports = list[Annotated[int, Field(ge=1, le=65_535)]]
ZoneName = Annotated[str, AfterValidator(_zone)]
