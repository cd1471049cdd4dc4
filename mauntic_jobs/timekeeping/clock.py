"""The one reader of the wall clock. Commands call it once, at the edge, and pass the instant on."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current instant, aware, in UTC."""
    return datetime.now(UTC)
