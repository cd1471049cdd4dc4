"""Finding of a check: its severity, a sentence, and a remedy."""

from enum import StrEnum
from typing import NamedTuple


class FindingSeverity(StrEnum):
    """How bad a finding is, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOT_CHECKED = "not_checked"
    OK = "ok"


class Finding(NamedTuple):
    """One finding. `to_do` is a command, a setting or a deed; empty where there is nothing to do.

    `area` and `check` say what was looked at.
    """

    severity: FindingSeverity
    what: str
    to_do: str = ""
    area: str = ""
    check: str = ""


def error(what: str, to_do: str) -> Finding:
    """Return a finding that something does not work, or will not."""
    return Finding(FindingSeverity.ERROR, what, to_do)


def warning(what: str, to_do: str) -> Finding:
    """Return a finding that something works, and may not be meant."""
    return Finding(FindingSeverity.WARNING, what, to_do)


def not_checked(what: str, to_do: str = "") -> Finding:
    """Return that something could not be looked at."""
    return Finding(FindingSeverity.NOT_CHECKED, what, to_do)


def ok(what: str, hint: str = "") -> Finding:
    """Return that something is as it should be, and perhaps how it could be better."""
    return Finding(FindingSeverity.OK, what, hint)


def several(names: list[str], most: int = 3) -> str:
    """Return some names as a text that stays short: `a, b, c and 4 more`."""
    rest = len(names) - most
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:most])} and {rest} more"
