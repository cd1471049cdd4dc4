"""A dead letter: work that was given up, and waits for a human."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

# What the failed runs of the ledger are listed under, as if they were a queue.
RUNS = "run"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed job of a queue, or a failed run of the ledger.

    `queue` is the queue's name without its prefix, or `run`; `error` is as it was stored, and may hold an address;
    `failed_at` and `added_at` are aware, in UTC. `payload` is the job's data, if it was asked for and is an object;
    `score` is what Redis sorts the job by. `channel` is that of a delivery.
    """

    queue: str
    id: str
    name: str
    error: str
    fingerprint: str
    attempts: int
    failed_at: datetime
    added_at: datetime
    score: float = 0.0
    channel: str | None = None
    payload: Mapping[str, object] | None = None

    @property
    def address(self) -> str:
        """What names the letter on the command line."""
        return f"{self.queue}/{self.id}"

    @property
    def organization(self) -> str | None:
        """The organization that the payload names."""
        return _text(self.payload, "organizationId")

    @property
    def delivery(self) -> str | None:
        """The id under which the delivery ledger knows it, if it is a delivery."""
        if self.channel is None:
            return None
        return _text(self.payload, "deliveryId") or _text(self.payload, "idempotencyKey")

    @property
    def delivery_key(self) -> tuple[UUID, str] | None:
        """The organization and the id by which the delivery ledger knows it, if it is a delivery that can be read."""
        if not self.delivery or not self.organization:
            return None
        try:
            organization = UUID(self.organization)
            self.delivery.encode()
        except ValueError:
            return None
        # The ledger has no such id: Postgres cannot hold it.
        return None if "\x00" in self.delivery else (organization, self.delivery)

    def age(self, now: datetime) -> timedelta:
        """Return how long ago it was given up."""
        return now - self.failed_at


def _text(payload: Mapping[str, object] | None, name: str) -> str | None:
    value = (payload or {}).get(name)
    return str(value) if isinstance(value, str | int) else None
