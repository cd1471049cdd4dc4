"""Possible outcomes of one attempt at a job."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """The message needs no more. `mark` is the key that tells the Node engine so, and its value.

    `reason` is for the log, empty where there is nothing to log.
    """

    value: str
    mark: tuple[str, str] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """It never will be delivered, or a human must decide."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Once more by the job's own backoff, which spends an attempt."""

    reason: str


@dataclass(frozen=True, slots=True)
class Defer:
    """Once more after so many seconds, which spends no attempt."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Not done, and nothing has failed: for the next consumer."""


Decision = Done | Fail | Retry | Defer | GiveBack


_NAMES = {Fail: "failed", Retry: "retried", Defer: "deferred", GiveBack: "given back"}


def name_of(decision: Decision) -> str:
    """Return the name under which a decision is counted and logged."""
    return decision.value if isinstance(decision, Done) else _NAMES[type(decision)]


def logged_reason(decision: Decision) -> str | None:
    """Return what the log says about a job, or None where it says nothing."""
    match decision:
        case Done(_, _, reason):
            return reason or None
        case GiveBack():
            return None
        case Fail(reason) | Retry(reason) | Defer(_, reason):
            return reason
