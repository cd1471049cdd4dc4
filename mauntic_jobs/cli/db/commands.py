"""`db`: the schema and the indexes that mauntic-jobs needs."""

from typing import Annotated

import typer

from mauntic_jobs.cli.db.prune import register_prune
from mauntic_jobs.cli.documents.installation import DatabaseJson, DatabasePartJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_table
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.migrations import upgrade as upgrades
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.wording import plural

app = new_app("The database: the schema mauntic_jobs, and the indexes on the platform's tables.")


@command(app, "upgrade", example="mauntic-jobs db upgrade --dry-run")
def upgrade(
    settings: Settings,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL and change nothing.")] = False,
) -> None:
    """Bring the database up to date; running it again changes nothing.

    Rows that share a key to be are moved to mauntic_jobs.duplicates first; the highest counts stay.
    """
    if dry_run:
        with connect(settings) as session:
            state = upgrades.inspect(session)
        print_line(upgrades.script(state) if not state.current else "-- Nothing to do.")
        _tell_surplus(state.surplus, "to be moved")
        return
    _tell_surplus(upgrades.upgrade(settings, log), "moved")
    print_line("The database is up to date.")


@command(app, "status", example="mauntic-jobs db status --json", prints=DatabaseJson)
def status(settings: Settings, *, json: JsonOutput = False) -> None:
    """Show which migrations and indexes are there. Exits 3 if some are missing, 4 if they are not this version's."""
    with connect(settings) as session:
        state = upgrades.inspect(session)
    parts: list[DatabasePartJson] = [{"part": f"migration {each}", "state": "applied"} for each in state.applied]
    parts += [{"part": f"migration {each}", "state": "pending"} for each in state.pending]
    parts += [{"part": f"index {each.name}", "state": found.value} for each, found in state.indexes.items()]
    if json:
        document: DatabaseJson = {"current": state.current, "parts": parts, "duplicates": state.surplus}
        print_json(document)
    else:
        print_table(parts)
        _tell_surplus(state.surplus, "to be moved")
    if not state.current:
        log("Run `mauntic-jobs db upgrade`.")
        raise typer.Exit(ExitCode.PARTIAL)


@command(app, "init-platform", example="mauntic-jobs db init-platform --embedded")
def init_platform(settings: Settings) -> None:
    """Create the platform's tables in an empty database, for development only."""
    with connect(settings) as session:
        create_platform(session)
    print_line("The platform's tables are there. Next: mauntic-jobs db upgrade")


register_prune(app)


def _tell_surplus(surplus: dict[str, int], what: str) -> None:
    for table, rows in surplus.items():
        if rows:
            log(f"{table}: {plural(rows, 'duplicate row')} {what} to mauntic_jobs.duplicates")
