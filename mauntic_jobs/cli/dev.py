"""`dev`: Postgres and Valkey for development on this machine, kept until they are stopped."""

import os
import shlex
from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr

from mauntic_jobs.cli.documents.installation import ServersJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.output import log, print_fields, print_json, print_line
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.wording import plural

app = new_app("Development servers on this machine: Postgres and Valkey, and the platform's tables in them.")

_NOT_RUNNING = "The development servers are not running. Start them with `mauntic-jobs dev up`."


@command(app, "up", example='eval "$(mauntic-jobs dev up --sample)"')
def up(
    *,
    sample: Annotated[bool, typer.Option("--sample", help="Load a month of sample activity if there is none.")] = False,
) -> None:
    """Start the servers, unless they run already, and bring their database up to date.

    Prints DATABASE_URL and REDIS_URL for a shell to evaluate; with --embedded, other commands need neither.
    """
    from mauntic_jobs.demo.database import prepare
    from mauntic_jobs.embedded import dev

    servers = dev.up()
    settings = Settings(database_url=SecretStr(servers.database_url), redis_url=SecretStr(servers.redis_url))
    prepare(settings, log)
    if sample:
        _load_sample(settings)
    print_line(f"export DATABASE_URL={shlex.quote(servers.database_url)}")
    print_line(f"export REDIS_URL={shlex.quote(servers.redis_url)}")
    log("The servers run until `mauntic-jobs dev down`.")


@command(app, "down", example="mauntic-jobs dev down --delete")
def down(*, delete: Annotated[bool, typer.Option("--delete", help="Delete their data too.")] = False) -> None:
    """Stop the servers; their data stays unless it is to be deleted.

    Exits 0 also when none were running.
    """
    from mauntic_jobs.embedded import dev

    stopped = dev.down(delete=delete)
    print_line("The servers have stopped." if stopped else "No servers were running.")
    if delete:
        print_line("Their data is deleted.")


@command(app, "status", example="mauntic-jobs dev status --json", prints=ServersJson)
def status(*, json: JsonOutput = False) -> None:
    """Show where the servers are. Exits 0 when they are running, 3 when not."""
    from mauntic_jobs.embedded import dev

    servers = dev.status()
    state: dict[str, object] = {"running": servers is not None}
    if servers is not None:
        state |= {"database_url": servers.database_url, "redis_url": servers.redis_url}
        state |= {"directory": str(servers.directory), "pid": servers.pid}
    if json:
        print_json(state)
    else:
        state["running"] = "yes" if servers else "no"
        print_fields((name, str(value)) for name, value in state.items())
    if servers is None:
        log(_NOT_RUNNING)
        raise typer.Exit(ExitCode.PARTIAL)


@command(
    app,
    "psql",
    example="mauntic-jobs dev psql -c 'SELECT * FROM mauntic_jobs.runs'",
    # All that follows is psql's, -h included.
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": ["--help"],
    },
)
def psql(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARG", help="Passed on to psql.")] = None,
) -> None:
    """Open psql on the servers' database.

    All arguments are psql's, and so is the exit code.
    """
    from mauntic_jobs.embedded import binaries, dev

    servers = dev.status()
    if servers is None:
        raise UnavailableError(_NOT_RUNNING)
    program = binaries.psql()
    command_line = [program.name, *(arguments or [])]
    os.execve(program, command_line, _psql_environment(servers.database_url))  # noqa: S606 - no shell is meant


def _psql_environment(database_url: str) -> dict[str, str]:
    """Return ours with the address in variables, which other users cannot read, unlike a command line."""
    url = urlsplit(database_url)
    connection = {
        "PGHOST": url.hostname or "",
        "PGPORT": str(url.port),
        "PGUSER": url.username or "",
        "PGPASSWORD": url.password or "",
        "PGDATABASE": url.path.removeprefix("/"),
    }
    # Any other of Postgres's variables would lead elsewhere.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | connection


def _load_sample(settings: Settings) -> None:
    from mauntic_jobs.demo.audience import load_audience
    from mauntic_jobs.demo.sample import DAYS, is_empty, load_sample
    from mauntic_jobs.stores.postgres.session import connect

    with connect(settings) as session:
        if not is_empty(session):
            log("There is activity in the database already: no sample was loaded.")
            return
        with progress(DAYS + 1, "sample activity", quiet=False) as advance:
            now = clock.now()
            summary = load_sample(session, now, on_day=advance)
        load_audience(session, settings, now)
    log(f"loaded {plural(summary.events, 'event')} of {plural(len(summary.organizations), 'organization')}")
