"""An alert: a condition that an operator has to look at, named alike whichever process notices it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mauntic_jobs.settings.alert_channels import Severity

__all__ = ["Alert", "Cause", "Detail", "Severity"]

Detail = str | int | float | None


class Cause(StrEnum):
    """What alerts are raised for."""

    JOB_FAILED = "job failed"
    JOB_PARTIAL = "job partial"
    GROUPS_WITHHELD = "groups withheld"
    FIGURES_DIFFER = "figures differ"
    SLOT_MISSED = "slot missed"
    RUN_TOO_LONG = "run too long"
    RESULT_IMPLAUSIBLE = "result implausible"
    DEAD_LETTERS = "dead letters"
    DELIVERIES_HELD = "deliveries held"
    DELIVERIES_DEFERRED = "deliveries deferred"
    DELIVERIES_EXPIRED = "deliveries expired"
    RECIPIENTS_REFUSED = "recipients refused"
    RECEIVERS_DEFERRING = "receivers deferring"
    PROVIDER_FAILED_OVER = "provider failed over"
    REPUTATION = "reputation at risk"
    CONSUMER_STUCK = "consumer stuck"
    SECOND_CLOCK = "second clock"
    CLOCK_SKEW = "clock skew"
    BACKFILL_STUCK = "backfill stuck"
    UPKEEP_FAILING = "upkeep failing"
    REDIS_LOST = "redis lost data"


@dataclass(frozen=True)
class Alert:
    """One thing to look at. `key` is what it is about, such as a job or a queue; with `cause` it is the whole identity.

    `summary` is a sentence, `action` the command to run next. No payloads and no personal data: both, and `details`, go
    to other people's services.
    """

    cause: Cause
    key: str
    severity: Severity
    summary: str
    action: str
    details: Mapping[str, Detail] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """What an alert has in common with those that say the same."""
        return f"{self.cause}:{self.key}"
