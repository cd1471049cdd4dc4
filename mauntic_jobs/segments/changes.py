"""The contacts that may have become entitled to enter a journey since its trigger was evaluated last.

A contact that may enter now and could not then has become a member, or the last of its executions that kept it out no
longer does. So its own row was written, or a row that lists it in a static segment, or an execution of it that is not
active now; or the time to wait after such an execution has run out. An execution that is deleted leaves no trace: the
daily full evaluation is for that.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from psycopg.sql import SQL, Identifier

from mauntic_jobs.job import Transaction
from mauntic_jobs.segments.marks import TriggerMark
from mauntic_jobs.segments.trigger_evaluation import TriggerEvaluation
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.window import naive

_sql = statements("segment_marks")


def find_changed(
    transaction: Transaction, evaluations: Sequence[TriggerEvaluation], marks: Mapping[UUID, TriggerMark], now: datetime
) -> dict[UUID, int]:
    """Put the contacts that changed since the marks in the table `mauntic_jobs_changed`, in one scan for all triggers.

    The table has the columns that the criteria name. Returns how many contacts each organization has that has any. The
    earliest of the marks counts for all: to evaluate a contact that has not changed finds nothing.
    """
    asked = _asked(evaluations, [marks[each.trigger] for each in evaluations], now)
    columns = sorted({column for each in evaluations for column in each.columns} - {"id", "organization_id"})
    transaction.execute(_statement("changed", columns), asked)
    transaction.execute(_sql["analyze_changed"])
    return {row["organization_id"]: row["contacts"] for row in transaction.rows(_sql["changed_counts"])}


def is_changed(
    transaction: Transaction, evaluation: TriggerEvaluation, mark: TriggerMark, now: datetime, contact: UUID
) -> bool:
    """Return whether a contact changed since the mark, so that an evaluation of changes at `now` looks at it."""
    asked = _asked([evaluation], [mark], now) | {"organization": evaluation.organization, "contact": contact}
    return bool(transaction.row(_statement("is_changed"), asked)["is_changed"])


def _statement(name: str, columns: Sequence[str] = ()) -> bytes:
    also = SQL("").join(SQL(", {}").format(Identifier("contact", each)) for each in columns)
    contacts = SQL(_sql["changed_contacts"].decode()).format(columns=also)
    return SQL(_sql[name].decode()).format(contacts=contacts).as_bytes(None)


def _asked(evaluations: Sequence[TriggerEvaluation], marks: Sequence[TriggerMark], now: datetime) -> dict[str, object]:
    static = [each for each in evaluations if each.segment["type"] == "static"]
    waits = [wait for each, mark in zip(evaluations, marks, strict=True) for wait in _waits(each, mark, now)]
    return {
        "horizon": str(min(mark.horizon for mark in marks)),
        "organizations": sorted({each.organization for each in evaluations}),
        "segments": [each.segment["id"] for each in static],
        "segment_organizations": [each.organization for each in static],
        "journeys": [journey for journey, *_ in waits],
        "journey_organizations": [organization for _, organization, *_ in waits],
        "waited_after": [after for _, _, after, _ in waits],
        "waited_until": [until for *_, until in waits],
    }


def _waits(
    evaluation: TriggerEvaluation, mark: TriggerMark, now: datetime
) -> list[tuple[UUID, UUID, datetime, datetime]]:
    """Return the journey whose executions let a contact in again, and when those started whose wait ran out.

    None where a contact enters once: then no execution that ends lets it in.
    """
    if evaluation.config.re_entry.type == "once":
        return []
    return [
        (evaluation.journey, evaluation.organization, after, until)
        for after, until in evaluation.config.waits(mark.evaluated_at, naive(now))
    ]
