"""Options that several jobs have, and the check that the ids they name exist."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import Field

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import JobOptions, Transaction


def only(noun: str) -> Any:
    """Return a field for ids of things that the job is limited to."""
    return Field([], description=f"Only this {noun}; may be given more than once.", json_schema_extra={"metavar": "ID"})


class OrganizationOptions(JobOptions):
    """The options of a job that can be limited to organizations."""

    org: list[UUID] = only("organization")


class RollupOptions(OrganizationOptions):
    """The options of a job that rebuilds groups of events."""

    compare: bool = Field(False, description="Show old and new values of every group that changes.")
    allow_shrink: bool = Field(False, description="Let values go down, or away, where raw events are gone.")


def check_known(transaction: Transaction, query: bytes, parameters: Mapping[str, object], sentence: str) -> None:
    """Raise UsageError with `sentence` about the ids that `query` returns as unknown, in the place of its `{}`."""
    unknown = transaction.rows(query, parameters)
    if unknown:
        raise UsageError(sentence.format(", ".join(str(row["id"]) for row in unknown)))
