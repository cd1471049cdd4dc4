"""Operators' weights of organizations in their turns, in Postgres, where delivering processes read them."""

from datetime import datetime
from uuid import UUID

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

_MIN_WEIGHT, _MAX_WEIGHT = 0.1, 10.0

_sql = statements("turn_weights")


def check_weight(weight: float) -> None:
    """Raise UsageError for a weight out of bounds, which the table would refuse."""
    if not _MIN_WEIGHT <= weight <= _MAX_WEIGHT:
        raise UsageError(f"A weight is a number from {_MIN_WEIGHT} to {_MAX_WEIGHT:g}, and 1 is the usual one.")


def set_weight(session: Session, organization: UUID, weight: float, *, why: str, by: str, now: datetime) -> None:
    """Give an organization a weight from now on; 1 is that of all others."""
    if weight == 1:
        session.execute(_sql["unset"], {"organization": organization})
        return
    values = {"organization": organization, "weight": weight, "why": why, "by": by, "since": now}
    session.execute(_sql["set"], values)


def list_weights(session: Session, organization: UUID | None = None) -> list[Row]:
    """Return the weights of all organizations that have another than 1, or of one, the latest first."""
    return session.rows(_sql["current"], {"organization": organization})
