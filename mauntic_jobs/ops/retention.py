"""Retention: removal of old rows in small transactions, contact data first and the rows around it later.

Only what is settled is removed, and only from tables of the schema mauntic_jobs. Deliveries that nothing has moved for
long are settled before, and counted in their campaigns.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mauntic_jobs.delivery.ledger.settle import expire
from mauntic_jobs.errors import UsageError
from mauntic_jobs.settings.frequency_cap import LONGEST
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import format_duration

_BATCH = 1000
# Pages of a table that are looked at in one transaction: a megabyte, and about as many deliveries as a batch.
_PAGES = 128
_LIMITS = Limits("mauntic-jobs prune")

_sql = statements("retention")


@dataclass(frozen=True)
class Part:
    """Something that becomes old: after its setting, or `shortest` without one, or sooner beyond `most` rows.

    `by_page`: the table is too large to be searched often, and is gone through once, from its first page to its last.
    """

    name: str
    setting: str | None
    most: int | None = None
    by_page: bool = False
    shortest: timedelta = timedelta(days=1)


# Longer than any message waits for its provider or its warm-up.
_UNSETTLED = Part("unsettled", "retain_contact_data", by_page=True, shortest=timedelta(days=7))

PARTS = (
    # First, so that what is settled here is settled for the others too.
    _UNSETTLED,
    Part("contact_data", "retain_contact_data", by_page=True),
    Part("discarded_payloads", "retain_contact_data"),
    # Longer than any message waits: a second job for a delivery is known by its row.
    Part("deliveries", "retain_deliveries", by_page=True, shortest=timedelta(days=7)),
    # Before their runs, which tell how far they have come.
    Part("backfills", "retain_runs"),
    Part("runs", "retain_runs", most=1_000_000),
    Part("figure_changes", "retain_figure_changes"),
    Part("outbox", "retain_outbox", most=1_000_000),
    Part("alerts", "retain_alerts", most=100_000),
    Part("discarded", "retain_discarded", most=1_000_000),
    Part("duplicates", "retain_duplicates"),
    # A provider that is in use is tried again within minutes, and its pause ends or moves on.
    Part("restrictions", "retain_alerts"),
    Part("pauses", None, shortest=timedelta(days=7)),
    # No cap looks back further.
    Part("frequency_caps", None, shortest=LONGEST),
)


@dataclass(frozen=True)
class Pruned:
    """How many rows of a part were older than `age`, and were removed unless it was a rehearsal."""

    part: str
    age: timedelta
    rows: int


def ages(settings: Settings, given: Mapping[str, timedelta]) -> dict[str, timedelta]:
    """Return how old each part may become: as `given`, or as the settings say.

    Raises UsageError for a part that is not there, or an age that is too short.
    """
    unknown = [name for name in given if name not in {part.name for part in PARTS}]
    if unknown:
        names = ", ".join(part.name for part in PARTS)
        raise UsageError(f"There is nothing called {', '.join(unknown)} to prune. It is one of {names}.")
    for part in PARTS:
        if given.get(part.name, part.shortest) < part.shortest:
            raise UsageError(f"{part.name} must be kept for {format_duration(part.shortest)} or longer.")
    return {part.name: given.get(part.name, _age(part, settings)) for part in PARTS}


def _age(part: Part, settings: Settings) -> timedelta:
    own: timedelta = part.shortest if part.setting is None else getattr(settings, part.setting)
    return max(own, part.shortest)


def prune(
    session: Session,
    kept: Mapping[str, timedelta],
    now: datetime,
    *,
    dry_run: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Pruned]:
    """Remove what is older than `kept` says, part by part; yield how much that was.

    Half of the time is left to others. Safe to run beside everything else, also twice, and to kill at any point.
    """
    for part in PARTS:
        before = now - kept[part.name]
        if part.name == "deliveries" and not dry_run:
            session.execute(_sql["note_pruned"], {"part": part.name, "before": before})
        rows = 0
        batches = _by_page(session, part, before) if part.by_page else _by_id(session, part, before)
        started = time.monotonic()
        for ids in batches:
            if dry_run or not ids:
                rows += len(ids)
            else:
                rows += _remove(session, part, {"ids": ids, "before": before}, kept[part.name])
            sleep(time.monotonic() - started)
            started = time.monotonic()
        yield Pruned(part.name, kept[part.name], rows)


def _remove(session: Session, part: Part, which: Mapping[str, object], age: timedelta) -> int:
    if part is not _UNSETTLED:
        with session.transaction(_LIMITS):
            return session.execute(_sql[f"{part.name}_delete"], which)
    with session.transaction(_LIMITS):
        rows = session.rows(_sql["unsettled_rows"], which)
    # By their fences: what has been taken in hand since stays open.
    return sum(expire(session, rows, age))


def _by_page(session: Session, part: Part, before: datetime) -> Iterator[list[object]]:
    pages = session.row(_sql["delivery_pages"])["pages"]
    for first in range(0, pages, _PAGES):
        where = {"first": f"({first},0)", "end": f"({first + _PAGES},0)", "before": before}
        yield _old(session, part, where)


def _by_id(session: Session, part: Part, before: datetime) -> Iterator[list[object]]:
    after = 0
    while ids := _old(session, part, {"after": after, "before": before, "batch": _BATCH, "most": part.most}):
        yield ids
        after = ids[-1]


def _old(session: Session, part: Part, where: Mapping[str, Any]) -> list[Any]:
    with session.transaction(_LIMITS):
        return [row["id"] for row in session.rows(_sql[f"{part.name}_old"], where)]
