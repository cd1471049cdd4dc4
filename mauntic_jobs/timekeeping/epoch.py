"""Instants as milliseconds since 1970, which is how BullMQ writes them."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(instant: datetime) -> int:
    """Return an aware instant in whole milliseconds since 1970."""
    return (instant - _EPOCH) // _MILLISECOND


def instant_of(milliseconds: float) -> datetime:
    """Return the instant of so many milliseconds since 1970, aware, in UTC. Raises OverflowError beyond year 9999."""
    return _EPOCH + milliseconds * _MILLISECOND
