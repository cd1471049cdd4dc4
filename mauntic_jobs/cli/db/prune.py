"""`db prune`: removal of old rows."""

from datetime import timedelta
from typing import Annotated

import typer

from mauntic_jobs.cli.documents.installation import PrunedJson, PrunedPartJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.output import log, print_json, print_table
from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.retention import PARTS, Pruned, ages, prune
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import format_duration, parse_duration


def register_prune(app: typer.Typer) -> None:
    """Add the command to the group."""
    example = "mauntic-jobs db prune --older-than deliveries=180d --dry-run"
    command(app, "prune", example=example, prints=PrunedJson)(prune_old)


def prune_old(
    settings: Settings,
    *,
    older_than: Annotated[
        list[str] | None,
        typer.Option(metavar="PART=TIME", help="Instead of the settings, such as runs=100d; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; count what is old.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    json: JsonOutput = False,
) -> None:
    """Remove what is older than the settings retain_* say, in batches that keep no other process waiting.

    Contact data goes first, rows later. Messages that nothing has moved for long expire. Only what is settled is
    removed, and nothing from the platform's tables.
    """
    kept = ages(settings, dict(_part(text) for text in older_than or []))
    with connect(settings) as session:
        done = list(prune(session, kept, clock.now(), dry_run=dry_run))
    rows = [_row(each) for each in done]
    if json:
        document: PrunedJson = {"dry_run": dry_run, "parts": rows}
        print_json(document)
        return
    if not quiet:
        print_table(rows)
    if dry_run:
        log("Nothing was removed.")


def _part(text: str) -> tuple[str, timedelta]:
    name, mark, length = text.partition("=")
    if not mark:
        names = ", ".join(part.name for part in PARTS)
        raise UsageError(f"--older-than {text} is not like runs=100d, with one of {names}.")
    return name.strip(), parse_duration(length)


def _row(pruned: Pruned) -> PrunedPartJson:
    return {"part": pruned.part, "older_than": format_duration(pruned.age), "rows": pruned.rows}
