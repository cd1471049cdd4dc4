"""Entry rules of a trigger, and what of them keeps a contact out of a journey at an instant."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.job import Transaction
from mauntic_jobs.segments.trigger_evaluation import TriggerEvaluation
from mauntic_jobs.sql import statements

_sql = statements("contact_journey")


class Obstacle(StrEnum):
    """Why a contact may not enter."""

    ACTIVE = "in the journey"
    ONCE = "once only"
    COOLDOWN = "cooldown"
    CAP = "frequency cap"


class Block(NamedTuple):
    """One obstacle. `until` is when it ends by itself, None for never or when an execution ends.

    `since` is when the contact entered: with the active `execution`, or last; for a cap, with the first of the
    `entries` that count.
    """

    obstacle: Obstacle
    since: datetime | None
    until: datetime | None = None
    execution: UUID | None = None
    entries: int | None = None


def read_blocks(transaction: Transaction, evaluation: TriggerEvaluation, contact: UUID, at: datetime) -> list[Block]:
    """Return what keeps a contact from entering by a trigger at the instant `at`, aware, in UTC."""
    config, rules = evaluation.config, evaluation.config.rules(at)
    named = {"journey": evaluation.journey, "organization": evaluation.organization, "contact": contact}
    row = transaction.row(_sql["entries"], rules | named)
    blocks: list[Block] = []
    if row["active"] is not None:
        blocks.append(Block(Obstacle.ACTIVE, instant(row["active_since"]), execution=row["active"]))
    if row["too_soon"]:
        entered = instant(row["entered_at"])
        once, days = config.re_entry.type == "once", config.re_entry.cooldown_days
        blocks.append(Block(Obstacle.ONCE if once else Obstacle.COOLDOWN, entered, _after(entered, days)))
    cap = config.frequency_cap
    if cap is not None and row["entries"] >= cap.max_count:
        since = instant(row["capped_at"])
        blocks.append(Block(Obstacle.CAP, since, _after(since, cap.window_days), entries=row["entries"]))
    return blocks


def ends_of(blocks: Sequence[Block]) -> datetime | None:
    """Return when all blocks are over by themselves; None if one of them does not end so."""
    ends = [each.until for each in blocks]
    known = [each for each in ends if each is not None]
    return max(known) if known and len(known) == len(ends) else None


def instant(value: object) -> datetime | None:
    """Return a time of the platform's, None for one that is absent or cannot be read, such as `infinity`."""
    return value if isinstance(value, datetime) else None


def _after(since: datetime | None, days: int | None) -> datetime | None:
    return None if since is None or days is None else since + timedelta(days=days)
