"""`backfill list`, `show`, `pause` and `cancel`: what is recorded of backfills, from any host."""

from collections.abc import Callable
from typing import Annotated

import typer

from mauntic_jobs.backfill.store import (
    Backfill,
    WindowState,
    cancel,
    list_backfills,
    pause,
    read_backfill,
    read_windows,
)
from mauntic_jobs.cli.backfill.options import Number
from mauntic_jobs.cli.backfill.output import backfill_json, backfill_line, details_json, print_windows, summary
from mauntic_jobs.cli.documents.backfills import BackfillDetailsJson, BackfillJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.options import Limit, Wide
from mauntic_jobs.cli.framework.output import log, print_fields, print_json, print_line, print_table
from mauntic_jobs.ops.operator_name import operator_name
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.wording import plural

_COLUMNS = ("id", "job", "windows", "state", "done", "failed", "skipped", "started")


def register_records(app: typer.Typer) -> None:
    """Add the commands to the group `backfill`."""
    command(app, "list", example="mauntic-jobs backfill list --open", prints=list[BackfillJson])(list_all)
    command(app, "show", example="mauntic-jobs backfill show 7", prints=BackfillDetailsJson)(show)
    command(app, "pause", example="mauntic-jobs backfill pause 7", prints=BackfillJson)(pause_one)
    command(app, "cancel", example="mauntic-jobs backfill cancel 7", prints=BackfillJson)(cancel_one)


def list_all(
    settings: Settings,
    *,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are active or paused.")] = False,
    limit: Limit = 20,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """List backfills, latest first."""
    with connect(settings) as session:
        found = list_backfills(session, only_open=only_open, limit=limit)
    if json:
        print_json([backfill_json(each) for each in found])
    else:
        print_table([backfill_line(each) for each in found], columns=_COLUMNS, wide=wide)


def show(settings: Settings, number: Number, *, json: JsonOutput = False) -> None:
    """Show a backfill with its windows."""
    with connect(settings) as session:
        backfill, windows = read_backfill(session, number), read_windows(session, number)
    if json:
        print_json(details_json(backfill, windows))
        return
    print_fields([(name, value) for name, value in _fields(backfill).items() if value not in (None, "")])
    print_windows(windows)
    if backfill.ended_at is None or backfill.counts[WindowState.FAILED]:
        log(summary(backfill))


def pause_one(settings: Settings, number: Number, *, json: JsonOutput = False) -> None:
    """Let no further window of a backfill begin; what is being run ends first."""
    _change(settings, number, lambda session: pause(session, number, f"by {operator_name()}"), json=json)


def cancel_one(settings: Settings, number: Number, *, json: JsonOutput = False) -> None:
    """End a backfill for good: no further window begins, and what is done stays done."""
    _change(settings, number, lambda session: cancel(session, number, f"by {operator_name()}"), json=json)


def _change(settings: Settings, number: int, change: Callable[[Session], Backfill], *, json: bool) -> None:
    with connect(settings) as session:
        backfill = change(session)
    if json:
        print_json(backfill_json(backfill))
    else:
        print_line(summary(backfill))
    running = backfill.counts[WindowState.RUNNING]
    if running:
        log(f"backfill {number}: {plural(running, 'window')} under way will end, and count if they succeed")


def _fields(backfill: Backfill) -> dict[str, object]:
    line = backfill_line(backfill)
    given = ", ".join(f"{name}={value}" for name, value in backfill.options.items())
    order = "newest first" if backfill.newest_first else "oldest first"
    return {
        **{name: line[name] for name in ("id", "job", "windows", "state", "done", "failed", "skipped")},
        "reprocess": ", ".join(backfill.reprocess),
        "order": f"{order}, {backfill.parallel} at a time",
        "options": given,
        "started": backfill.created_at,
        "worked_at": backfill.worked_at,
        "by": f"process {backfill.pid} on {backfill.host}",
        "ended": backfill.ended_at,
    }
