"""Entries of contacts into the journeys of several triggers: members, candidates, executions, set by set in SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.sql import SQL

from mauntic_jobs.job import Row, Transaction
from mauntic_jobs.segments.hits import hits_statements, mask
from mauntic_jobs.segments.trigger_evaluation import TriggerEvaluation
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.window import naive

BATCH = 10_000
# The executions of more members are not sought one by one.
MAX_SOUGHT = 200_000

_sql = statements("segment_triggers")


class TriggerCounts(NamedTuple):
    """What the evaluation of one trigger found among the contacts that it looked at."""

    members: int
    candidates: int


def make_tables(transaction: Transaction) -> None:
    """Make the tables that each evaluation of the transaction fills anew, and have plans made for them."""
    for table in ("values_table", "hits_table", "open_hits_table", "candidates_table"):
        transaction.execute(_sql[table])
    transaction.row(_sql["plan_settings"])


def find_candidates(
    transaction: Transaction,
    group: Sequence[TriggerEvaluation],
    reading: SegmentReading,
    now: datetime,
    *,
    changed: bool,
) -> list[TriggerCounts]:
    """Put those who may enter now in the table `mauntic_jobs_candidates`, and return the counts of each trigger.

    All triggers belong to one organization. With `changed` only the contacts of `mauntic_jobs_changed` are looked at.
    """
    common = {"organization": group[0].organization}
    transaction.execute(_sql["empty"])
    for statement, parameters in hits_statements([each.segment for each in group], reading, changed=changed):
        transaction.execute(statement, common | parameters)
    numbers = {"numbers": list(range(len(group)))}
    members = {row["number"]: row["members"] for row in transaction.rows(_sql["member_counts"], numbers)}
    rules = _rules(group, now)
    hits = SQL("pg_temp.mauntic_jobs_hits")
    if sum(members.values()) > MAX_SOUGHT:
        transaction.execute(_sql["open_hits"], rules)
        hits = SQL("pg_temp.mauntic_jobs_open_hits")
    transaction.execute(SQL(_sql["candidates"].decode()).format(hits=hits).as_bytes(None), rules)
    candidates = {row["number"]: row["candidates"] for row in transaction.rows(_sql["candidate_counts"])}
    return [TriggerCounts(members[number], candidates.get(number, 0)) for number in range(len(group))]


def enter(transaction: Transaction, group: Sequence[TriggerEvaluation], candidates: int, now: datetime) -> int:
    """Create the executions of the candidates with their jobs for the executor, and return how many they are."""
    common = {
        "organization": group[0].organization,
        "now": naive(now),
        "numbers": list(range(len(group))),
        "journeys": [evaluation.journey for evaluation in group],
        "versions": [evaluation.version for evaluation in group],
        "entry_steps": [evaluation.entry_step for evaluation in group],
    }
    return sum(
        transaction.execute(_sql["enter"], common | {"after": after, "up_to": after + BATCH})
        for after in range(0, candidates, BATCH)
    )


def count_members(transaction: Transaction, segment: Row, members: int) -> None:
    """Bring the `contact_count` of a dynamic segment up to date."""
    transaction.execute(_sql["count_members"], {"segment": segment["id"], "members": members})


def _rules(group: Sequence[TriggerEvaluation], now: datetime) -> dict[str, object]:
    rules = [evaluation.config.rules(now) for evaluation in group]
    return {
        "numbers": list(range(len(group))),
        "journeys": [evaluation.journey for evaluation in group],
        "no_entry_since": [rule["no_entry_since"] for rule in rules],
        "caps": [rule["cap"] for rule in rules],
        "cap_since": [rule["cap_since"] for rule in rules],
        "masks": [mask([number], len(group)) for number in range(len(group))],
        "none": mask([], len(group)),
    }
