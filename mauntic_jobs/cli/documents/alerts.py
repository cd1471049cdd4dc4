"""JSON of alerts and of the monitor."""

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.alerts.alert import Cause, Detail, Severity
from mauntic_jobs.alerts.ledger import AlertRow


class AlertJson(AlertRow):
    """An alert, as the ledger has it.

    `fingerprint` is its cause and what it is about. `seen` counts how often it was noticed. `notified_by` is the
    channel that took it; `problem` is why none did. It is open while `closed_at` is null. `action` is the command to
    run next. An earlier version may have had other causes.
    """

    seen_at: AwareDatetime
    notified_by: str | None
    problem: str | None
    close_notified_at: AwareDatetime | None


class FoundAlertJson(TypedDict):
    """What a look found: `about` is a job, a queue, a channel or a part of the installation."""

    cause: Cause
    about: str
    severity: Severity
    summary: str
    action: str
    details: dict[str, Detail]


class MonitorJson(TypedDict):
    """One look of the monitor: what it found, and what became of the notifications.

    `told` are the titles of messages that a channel took. `untold` are those that none took, and `broken` the channels
    that took nothing, each with the reason. `unknown` are the causes that could not be looked for, with the reason.
    """

    alerts: list[FoundAlertJson]
    told: list[str]
    untold: dict[str, str]
    broken: dict[str, str]
    unknown: dict[str, str]


class ChannelTestJson(TypedDict):
    """How a channel took a test message: `result` is `taken` or `failed`."""

    channel: str
    result: str
    seconds: float
    problem: str | None
