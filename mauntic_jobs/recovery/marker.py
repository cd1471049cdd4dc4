"""Marker in both stores that tells when Redis has lost data: emptied, or restored from an older state.

A number rises in Redis with each look and is then written to Postgres. So Redis never has a lower number than Postgres
had before, unless it lost what came after.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from mauntic_jobs.job import Row
from mauntic_jobs.lua import script
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts

_sql = statements("redis_marker")


@dataclass(frozen=True)
class Loss:
    """A loss of data that was not recovered from yet. All instants are aware, in UTC.

    `since` is the last look before which nothing was lost, `kept_until` the last look that Redis remembers (None if it
    was emptied), `noticed_at` the first look after.
    """

    since: datetime
    kept_until: datetime | None
    noticed_at: datetime

    @property
    def sentence(self) -> str:
        """What is known of it."""
        state = "was emptied" if self.kept_until is None else f"was set back to its state of {_shown(self.kept_until)}"
        return f"Redis {state} after {_shown(self.since)}: jobs on its queues are lost."


@dataclass(frozen=True)
class Marker:
    """The marker as Postgres has it. `loss` is the one that was noticed and not recovered from yet."""

    number: int
    marked_at: datetime
    loss: Loss | None


def mark(session: Session, redis: RedisScripts, settings: Settings, now: datetime) -> Loss | None:
    """Look for a loss, write down one that is new, and raise the marker. Returns the loss that is open, if any."""
    return raise_marker(session, redis, settings, now).loss


def raise_marker(session: Session, redis: RedisScripts, settings: Settings, now: datetime, *, seen: int = 0) -> Marker:
    """Do as `mark` does, and return the marker. `seen` is a number that Redis had, if that is above Postgres's."""
    marker = read_marker(session, settings)
    number, kept_until = _kept(redis, settings)
    known = max(marker.number if marker else 0, seen)
    if marker and number < known:
        # Before the marker is raised, or a process that ends in between would hide the loss.
        session.execute(_sql["lose"], {"prefix": settings.queue_prefix, "kept_until": kept_until, "now": now})
    raised = _raise(redis, settings, known, now)
    session.execute(_sql["raise"], {"prefix": settings.queue_prefix, "number": raised, "now": now})
    return Marker(raised, now, open_loss(session, settings))


def mark_in_redis(redis: RedisScripts, settings: Settings, now: datetime, *, seen: int) -> int | None:
    """Raise the marker in Redis alone; return its number, or None if Redis has lost what it had by `seen`."""
    number, _ = _kept(redis, settings)
    return None if number < seen else _raise(redis, settings, seen, now)


def read_marker(session: Session, settings: Settings) -> Marker | None:
    """Return the marker, or None before the first look."""
    rows = session.rows(_sql["read"], {"prefix": settings.queue_prefix})
    return Marker(rows[0]["number"], rows[0]["marked_at"], _loss(rows[0])) if rows else None


def look(marker: Marker | None, redis: RedisScripts, settings: Settings, now: datetime) -> Loss | None:
    """Return the loss that is open, or one that is noticed only now. Writes nothing; `marker` was read before."""
    if marker is None or marker.loss is not None:
        return marker.loss if marker else None
    number, kept_until = _kept(redis, settings)
    return Loss(marker.marked_at, kept_until, now) if number < marker.number else None


def open_loss(session: Session, settings: Settings) -> Loss | None:
    """Return the loss that was noticed and not recovered from, by Postgres alone."""
    marker = read_marker(session, settings)
    return marker.loss if marker else None


def close_loss(session: Session, settings: Settings, now: datetime) -> None:
    """Write down that the loss was recovered from."""
    session.execute(_sql["recover"], {"prefix": settings.queue_prefix, "now": now})


def _raise(redis: RedisScripts, settings: Settings, known: int, now: datetime) -> int:
    (raised,) = redis.run(script("mark_redis"), [([_key(settings)], [known, now.isoformat()])])
    return int(raised)


def _kept(redis: RedisScripts, settings: Settings) -> tuple[int, datetime | None]:
    """Return the number that Redis has, and when it got it; 0 and None if it has none."""
    number, at = redis.command("HMGET", _key(settings), "number", "at")
    return int(number or 0), datetime.fromisoformat(at.decode()) if at else None


def _loss(row: Row) -> Loss | None:
    return Loss(row["lost_since"], row["kept_until"], row["lost_at"]) if row["lost_at"] else None


def _key(settings: Settings) -> str:
    return f"mauntic-jobs:marker:{settings.queue_prefix}"


def _shown(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
