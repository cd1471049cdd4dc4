"""Second sending of messages that failed or expired: only those that were chosen, and none that was sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.delivery.ledger.reopen import ReopenRequest, reopen
from mauntic_jobs.delivery.queues import add_payloads, job_id_of
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts

# The states in which nothing was sent, and nothing will be unless an operator asks for it.
UNSENT = (State.FAILED, State.EXPIRED)

_sql = statements("delivery_desk")


@dataclass(frozen=True)
class Unsent:
    """Selection of messages that were not sent; a condition that is None holds for all.

    `campaign` is a row of `delivery.delivery_jobs`, `since` when the message failed or expired, `reason` a part of its
    reason in any case.
    """

    state: State
    campaign: UUID | None = None
    organization: UUID | None = None
    channel: str | None = None
    since: datetime | None = None
    reason: str | None = None

    @property
    def conditions(self) -> dict[str, object]:
        """The conditions as parameters of SQL."""
        return vars(self)


def count_unsent(session: Session, which: Unsent) -> list[Row]:
    """Return how many there are by `organization_id`, `channel` and `reason`; `gone` have no content left.

    Raises UsageError if there is no such campaign, or if it belongs to another organization.
    """
    if which.campaign is not None:
        owners = session.rows(_sql["campaign_owner"], {"campaign": which.campaign})
        owner = owners[0]["organization_id"] if owners else None
        if owner is None or which.organization not in (None, owner):
            raise UsageError(f"There is no campaign {which.campaign}: it is a row of delivery.delivery_jobs.")
        return session.rows(_sql["unsent_reasons"], {**which.conditions, "organization": owner})
    return session.rows(_sql["unsent_reasons"], which.conditions)


def unsent_deliveries(session: Session, which: Unsent, organizations: Sequence[UUID], page: int) -> Iterator[list[Row]]:
    """Yield those of some organizations whose content is kept, in pages; each once, even if it fails meanwhile."""
    for organization in organizations:
        asked, after = {**which.conditions, "organization": organization, "page": page}, ""
        while rows := session.rows(_sql["unsent_page"], {**asked, "after": after}):
            yield rows
            after = rows[-1]["delivery_id"]


def resend(
    session: Session, redis: RedisScripts, settings: Settings, state: State, rows: Sequence[Row], now: datetime
) -> list[str | None]:
    """Put messages of a state on their queues again; return for each why it must not be, or None.

    They pass the suppression list, the warm-up and the ledger like any other; their age counts from now.
    """
    wishes = [_wish(row) for row in rows]
    refusals = reopen(session, redis, wishes, state)
    # Should the process die here, `reconcile` finds that they are owed.
    wanted = [(row, wish) for row, wish, why in zip(rows, wishes, refusals, strict=True) if why is None]
    for channel in {row["channel"] for row, _ in wanted}:
        payloads = {wish.queue_job: row["payload"] for row, wish in wanted if row["channel"] == channel}
        add_payloads(redis, settings, channel, payloads, now)
    return refusals


def _wish(row: Row) -> ReopenRequest:
    return ReopenRequest(
        row["organization_id"], row["delivery_id"], job_id_of(row, row["fence"] + 1), row["created_at"]
    )
