"""Rebuilds of rollups: new values beside old ones, and only the groups written that differ and are not in question.

A job supplies the statements: `count` counts the raw events of one bucket, `compare` makes the temporary table of its
old and new values that `rebuild.sql` describes; `summary` counts its groups as inserted, updated, removed, unchanged
and withheld; `changes` lists those that change; `differences` puts the figures that differ in another temporary table;
`fingerprint` sums up what is recorded and what is to be; `replace` writes them; `remove` deletes the groups without
events; both note in the same statement what they changed. `audit` compares a bucket by counts alone, without a table.

A group is withheld if a recorded value of it would fall, or if it does not fit into its columns. It keeps what is
recorded, and everything else is written.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mauntic_jobs.errors import PlanOutdatedError, RefusedError
from mauntic_jobs.job import (
    BucketCounts,
    BucketFigures,
    BucketPreview,
    Context,
    Draw,
    FigureLook,
    Fingerprint,
    JobOptions,
    JobResult,
    Row,
    Transaction,
)
from mauntic_jobs.jobs.event_counts import count_events
from mauntic_jobs.jobs.shrink_guard import describe
from mauntic_jobs.settings.types import ScheduledShrink
from mauntic_jobs.sql import statements

_SHOWN = 20
_MOST_CHANGED = 10
# More organizations than these are rebuilt with all the others of their bucket.
MAX_NAMED = 1000
# Of the hash by which organizations are drawn, so many bits count.
_DRAWN_BITS = 31

_sql = statements("rebuild")


class ChangeReason(StrEnum):
    """Why a run wrote figures: it rebuilt its window, found late events of another day, or another program's values."""

    REBUILD = "rebuild"
    LATE_EVENTS = "late events"
    OTHER_WRITER = "another writer"


@dataclass(frozen=True)
class Rebuild:
    """One bucket to rebuild for a job: the statements, their parameters, and the bucket's name in messages.

    `columns` are those of `table` that are written. With `kinds`, the parameters leave out all other kinds of groups.
    """

    job: str
    statements: Mapping[str, bytes]
    table: str
    columns: list[str]
    parameters: Row
    bucket: str
    compare: bool
    allow_shrink: bool
    kinds: list[str] | None = None
    reason: ChangeReason = ChangeReason.REBUILD


@dataclass
class Rebuilt:
    """The result of one or more rebuilds: counters, the changes if they were asked for, and what was withheld."""

    totals: Counter[str] = field(default_factory=Counter)
    changes: list[Row] = field(default_factory=list)
    withheld: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Rebuilt") -> None:
        """Add the result of another rebuild."""
        self.totals.update(other.totals)
        self.changes += other.changes
        self.withheld += other.withheld
        self.problems += other.problems

    @property
    def summary(self) -> list[Row]:
        """The totals of what was withheld, by bucket and reason."""
        firsts = {(row["bucket"], row["reason"]): row for row in reversed(self.withheld)}
        return [
            {
                "bucket": bucket,
                "reason": reason,
                "groups": row["groups_in_all"],
                "organizations": row["organizations"],
                "old_total": row["old_in_all"],
                "new_total": row["new_in_all"],
            }
            for (bucket, reason), row in sorted(firsts.items())
        ]

    def result(self, counters: Iterable[str]) -> JobResult:
        """Return the job's result: partial if groups were withheld, and a refusal if there was no other group."""
        withheld = self.totals["withheld"]
        handled = sum(self.totals[name] for name in ("inserted", "updated", "removed", "unchanged"))
        refusal = None
        if withheld and not handled:
            text = f"Nothing was written. {' '.join(self.problems)}"
            refusal = RefusedError(text, self.withheld[:_SHOWN], self.summary)
        return JobResult(
            {name: self.totals[name] for name in (*counters, "withheld")},
            self.changes,
            partial=bool(self.problems),
            problems=self.problems,
            withheld=withheld,
            summary=self.summary,
            refusal=refusal,
        )


def rebuild(context: Context[JobOptions], work: Rebuild) -> Rebuilt:
    """Rebuild one bucket, and record which of its groups are withheld."""
    transaction, sql = context.transaction, work.statements
    parameters = _compare(transaction, work)
    _check_expected(context, work)
    if context.slot is not None and context.settings.scheduled_shrink is ScheduledShrink.GONE_ORGANIZATIONS:
        transaction.execute(_sql["release_gone"])
    summary = transaction.row(sql["summary"])
    done = Rebuilt(Counter(summary))
    if summary["withheld"]:
        done.withheld = _withheld(context, work)
        limits = {name: parameters[name] for name in ("longest", "largest")}
        done.problems = describe(done.withheld, work.bucket, **limits)
    if work.compare:
        done.changes = transaction.rows(sql["changes"], parameters)
    if not context.dry_run:
        noted = {"now": context.now, "run": context.run, "job": work.job, "reason": work.reason.value}
        transaction.execute(sql["replace"], {**parameters, **noted})
        if summary["removed"]:
            transaction.execute(sql["remove"], {**parameters, **noted})
        _record(context, work)
    transaction.execute(_sql["forget"])
    return done


def drawn(draw: Draw | None) -> Row:
    """Return the parameters by which a statement looks at the organizations of a draw, or at all."""
    if draw is None:
        return {"share": None, "seed": None}
    return {"share": round(draw.share * 2**_DRAWN_BITS), "seed": draw.seed}


def verify_bucket(
    transaction: Transaction, work: Rebuild, look: FigureLook, came_late: Callable[[], bool]
) -> BucketFigures:
    """Compare each figure of a bucket with what a rebuild would record, for a transaction that is rolled back.

    `came_late`, asked once the groups are compared, tells whether groups that only lack events are explained by events
    that came after the bucket was recorded.
    """
    asked = {"job": work.job, "bucket": work.bucket, "most": MAX_NAMED}
    _compare(transaction, work)
    transaction.execute(work.statements["differences"], work.parameters)
    found = transaction.row(_sql["differing"], asked)
    gaining = found.pop("gaining")
    late = gaining if gaining and came_late() else 0
    rows = transaction.rows(_sql["list_differences"], {"limit": look.limit}) if found["differing"] else []
    preview = _preview(transaction, work) if look.preview else None
    return BucketFigures(**found, late=late, differences=rows, preview=preview)


def _preview(transaction: Transaction, work: Rebuild) -> BucketPreview:
    return BucketPreview(
        **transaction.row(_sql["preview"]),
        events=transaction.row(work.statements["summary"])["events"],
        fingerprint=_fingerprint(transaction, work),
        largest=transaction.rows(_sql["largest"], {"most": _MOST_CHANGED}),
    )


def _fingerprint(transaction: Transaction, work: Rebuild) -> Fingerprint:
    return Fingerprint(**transaction.row(work.statements["fingerprint"]))


def _check_expected(context: Context[JobOptions], work: Rebuild) -> None:
    """Raise PlanOutdatedError if the groups, which are compared, are not what a plan was made for."""
    what = context.expects.difference(_fingerprint(context.transaction, work)) if context.expects else ""
    if what:
        raise PlanOutdatedError(f"{what} in {work.bucket} since the plan was made: nothing of it was written.")


def recount(transaction: Transaction, work: Rebuild) -> list[Row]:
    """Count one bucket as a rebuild would, and return its groups beside what is recorded; for use in a rehearsal.

    The columns are those of the job's `compare`.
    """
    _compare(transaction, work)
    groups = transaction.rows(_sql["groups"])
    transaction.execute(_sql["forget"])
    return groups


def audit_bucket(transaction: Transaction, work: Rebuild) -> BucketCounts:
    """Compare the events of one bucket with what is recorded, by counts alone; distinct contacts are not counted."""
    (row,) = transaction.read(work.statements["audit"], {**work.parameters, **_capacity(transaction, work)})
    return BucketCounts(**row)


def _compare(transaction: Transaction, work: Rebuild) -> Row:
    """Count the bucket's events, put them beside what is recorded, and return the parameters of what comes next."""
    parameters = {**work.parameters, **_capacity(transaction, work), "allow_shrink": work.allow_shrink}
    count_events(transaction, work.statements["count"], work.parameters)
    transaction.execute(work.statements["compare"], parameters)
    return parameters


def _capacity(transaction: Transaction, work: Rebuild) -> Row:
    return transaction.row(_sql["capacity"], {"table": work.table, "columns": work.columns})


def _withheld(context: Context[JobOptions], work: Rebuild) -> list[Row]:
    rows = context.transaction.rows(_sql["withheld"], {"limit": _SHOWN})
    return [{"bucket": work.bucket, **row} for row in rows]


def _record(context: Context[JobOptions], work: Rebuild) -> None:
    """Record which groups are withheld. Runs that answer no slot settle questions, and raise none."""
    bucket = {"job": work.job, "bucket": work.bucket}
    scope = {**bucket, "organizations": work.parameters["organizations"], "kinds": work.kinds}
    context.transaction.execute(_sql["settle_withheld"], scope)
    if context.slot is not None:
        context.transaction.execute(_sql["record_withheld"], {**bucket, "now": context.now})
