"""How a rollup is rebuilt: put new values beside old ones, ask the shrink guard, write only what differs.

A job's .sql file supplies the statements: `compare` makes a temporary table of old and new values of one bucket;
`summary` counts its groups as inserted, updated, removed, unchanged and shrinking; `changes` lists those that change;
`replace` writes them; `remove` deletes the groups without events; `forget` drops the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mauntic_jobs.errors import RefusedError
from mauntic_jobs.job import Context, Row

_SHOWN_WHEN_REFUSED = 20


@dataclass(frozen=True)
class Rebuild:
    """One bucket to rebuild: the statements, their parameters, and the bucket's name in messages."""

    statements: Mapping[str, bytes]
    parameters: Mapping[str, Any]
    bucket: str
    compare: bool
    allow_shrink: bool
    # What else may be the reason for a refusal, and the way out.
    hint: str = ""


def rebuild(context: Context[Any], work: Rebuild) -> tuple[Row, list[Row]]:
    """Rebuild one bucket; return the summary and, if asked to compare, the changes.

    Raises RefusedError, with the values in question, if that would lower or remove a value unasked.
    """
    transaction, sql = context.transaction, work.statements
    transaction.execute(sql["compare"], work.parameters)
    summary = transaction.row(sql["summary"])
    if summary["shrinking"] and not work.allow_shrink:
        shown = {**work.parameters, "shrinking": True, "limit": _SHOWN_WHEN_REFUSED}
        raise RefusedError(_refusal(work, summary["shrinking"]), transaction.rows(sql["changes"], shown))
    changes: list[Row] = []
    if work.compare:
        changes = transaction.rows(sql["changes"], {**work.parameters, "shrinking": False, "limit": None})
    if not context.dry_run:
        transaction.execute(sql["replace"], work.parameters)
        if summary["removed"]:
            transaction.execute(sql["remove"], work.parameters)
    transaction.execute(sql["forget"])
    return summary, changes


def _refusal(work: Rebuild, groups: int) -> str:
    return (
        f"Rebuilding {work.bucket} would lower or remove {groups} recorded value{'s'[: groups != 1]}, so nothing was "
        "written: raw events may have been purged since, or the rows may come from a job that counted twice. "
        f"If the lower values are right, add --allow-shrink{work.hint}."
    )
