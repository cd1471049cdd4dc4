"""The demo: a month of events is aggregated, a campaign delivered, the other jobs follow, and all of them run again."""

import shlex
import shutil
import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr
from rich.console import Console

from mauntic_jobs.demo.database import prepare
from mauntic_jobs.demo.delivering import play_delivery
from mauntic_jobs.demo.organizations import PROFILES, QUICK_PROFILES
from mauntic_jobs.demo.sample import DAYS, SampleSummary, late_events, load_sample
from mauntic_jobs.demo.scenes import demand, play_all_again, play_others
from mauntic_jobs.demo.show import Show
from mauntic_jobs.demo.stage import CHANGING, Progress, RunOutcome, Stage, perform
from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY
from mauntic_jobs.ops.figures.rollup_drawing import overview, plot
from mauntic_jobs.ops.figures.rollups import read_rollups, whole_days
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping.window import parse_date

_QUICK_DAYS = 7
# Of the tables of figures, as of the commands that print the same.
MAX_LINES = 100
_LEDGER_ROWS = 7
_NEXT = (
    ('eval "$(mauntic-jobs dev up --sample)"', "servers that stay, for this shell"),
    ("mauntic-jobs aggregate-hourly --last 3d", "three days of its activity"),
    ("mauntic-jobs schedule list", "when each job runs, how it went"),
    ("mauntic-jobs runs list", "the ledger"),
    ("mauntic-jobs dev psql", "the tables, in psql"),
    ("mauntic-jobs dev down --delete", "leave nothing behind"),
)


def play(now: datetime, console: Console, progress: Progress, *, quick: bool = False) -> None:
    """Tell the whole story on `console`. Raises JobFailedError if a run does not end as it should."""
    show = Show(console)
    show.title("mauntic-jobs: six jobs on a month of activity, and a campaign on three channels")
    show.text(
        "All of this happens on throwaway servers on this machine and is gone at the end. "
        "After each $ stands the command that does the same on servers that stay."
    )
    with ExitStack() as stack:
        settings = _start(show, stack)
        _prepare(show, settings)
        session = stack.enter_context(connect(settings))
        days, profiles = (_QUICK_DAYS, QUICK_PROFILES) if quick else (DAYS, PROFILES)
        stage = Stage(show, session, settings, progress, now, days, profiles)
        summary = _load(stage)
        _aggregate(stage, summary)
        _again(stage)
        _late(stage, summary)
        play_delivery(stage)
        play_others(stage, summary)
        play_all_again(stage, summary)
        _ledger(stage)
    _farewell(show)


def _start(show: Show, stack: ExitStack) -> Settings:
    show.step("Start Postgres and Valkey", 'eval "$(mauntic-jobs dev up)"')
    servers = stack.enter_context(throwaway())
    show.done("They listen on this machine only, and end with this demo.")
    return Settings(database_url=SecretStr(servers.database_url), redis_url=SecretStr(servers.redis_url))


def _prepare(show: Show, settings: Settings) -> None:
    show.step("Create the platform's tables, and what mauntic-jobs adds", "mauntic-jobs db upgrade")
    steps: list[str] = []
    prepare(settings, steps.append)
    migrations, indexes = (sum(step.startswith(word) for step in steps) for word in ("applied ", "built "))
    show.done(
        f"{migrations} migrations in a schema of its own, and {indexes} indexes on the platform's tables, built "
        "without blocking writers."
    )


def _load(stage: Stage) -> SampleSummary:
    stage.show.step(f"Load {stage.days} days of sample activity, and today's so far", "mauntic-jobs dev up --sample")
    with stage.progress(stage.days + 1, "sample activity") as advance:
        summary = load_sample(stage.session, stage.now, days=stage.days, profiles=stage.profiles, on_day=advance)
    stage.show.done(
        f"{summary.events:,} events of {len(summary.organizations)} organizations, from {summary.start:%Y-%m-%d %H:%M} "
        f"to {summary.end:%Y-%m-%d %H:%M} UTC: mail, SMS, push and web; repeated opens, clicks that come days later, "
        "events a tenth of a second before midnight."
    )
    stage.show.blank()
    stage.show.table(
        ["organization", "id", "events"], [[each.name, str(each.id), each.events] for each in summary.organizations]
    )
    return summary


def _aggregate(stage: Stage, summary: SampleSummary) -> None:
    show = stage.show
    show.step("Aggregate them: a row for each organization, day and event type", _command(stage.last))
    outcome = perform(stage, AGGREGATE_HOURLY, stage.window)
    show.done(
        f"{outcome.runs} runs, one a day: {outcome.counters['events']:,} events became "
        f"{outcome.counters['inserted']:,} rows."
    )
    days = whole_days(stage.window)
    show.blank()
    show.command(f"mauntic-jobs show rollups {stage.last}")
    rollups = read_rollups(stage.session, AGGREGATE_HOURLY, stage.settings, days)
    show.draw(overview(rollups, show.canvas, stage.now.date(), MAX_LINES))
    largest = summary.organizations[0]
    show.blank()
    show.command(f"mauntic-jobs show rollups --org {largest.id} {stage.last} --plot")
    rollups = read_rollups(stage.session, AGGREGATE_HOURLY, stage.settings, days, largest.id)
    show.draw(plot(rollups, show.canvas))


def _again(stage: Stage) -> None:
    stage.show.step("Run it again", _command(stage.last))
    outcome = perform(stage, AGGREGATE_HOURLY, stage.window)
    demand(outcome.changed == 0, "The second run changed rows, and nothing had happened in between.")
    stage.show.done(f"Nothing changed: {_unchanged(outcome)}.")
    stage.show.text(
        "A run rebuilds whole days from the raw events and never adds to what is there: run twice, late, or in any "
        "order, it ends in the same rows."
    )


def _late(stage: Stage, summary: SampleSummary) -> None:
    show = stage.show
    show.step("Let events of yesterday arrive late")
    late = late_events(stage.session, stage.now, profiles=stage.profiles)
    show.text(f"{late} events, which phones held back while they were offline.")
    show.command(_command(stage.last, "--compare"))
    outcome = perform(stage, AGGREGATE_HOURLY, stage.window, compare=True)
    dates = {row["date"] for row in outcome.changes}
    demand(dates == {stage.yesterday}, "Other days than yesterday changed, and no events of theirs were added.")
    show.done(f"{outcome.changed} rows changed, all of {stage.yesterday}; {outcome.counters['unchanged']:,} unchanged.")
    names = {organization.id: organization.name for organization in summary.organizations}
    show.blank()
    show.table(
        ["date", "organization", "event type", "count", "distinct contacts"],
        [_change(row, names) for row in outcome.changes],
    )
    show.blank()
    show.command(_command("--date yesterday"))
    outcome = perform(stage, AGGREGATE_HOURLY, parse_date("yesterday", stage.now))
    demand(outcome.changed == 0, "A run after the late events changed rows, and nothing had happened in between.")
    show.done(f"Nothing changed: {_unchanged(outcome)}.")


def _ledger(stage: Stage) -> None:
    show = stage.show
    show.step("Look at the ledger: every run, latest first", f"mauntic-jobs runs list --limit {_LEDGER_ROWS}")
    runs = list_runs(stage.session, limit=_LEDGER_ROWS)
    show.blank()
    show.table(
        ["run", "job", "from", "status", "seconds"],
        [_ledger_line(run) for run in runs],
    )


def _command(*options: str) -> str:
    return " ".join(["mauntic-jobs", AGGREGATE_HOURLY.name, *options])


def _unchanged(outcome: RunOutcome) -> str:
    return ", ".join(f"{outcome.counters[name]:,} {name}" for name in (*CHANGING, "unchanged"))


def _change(row: Row, names: dict[UUID, str]) -> list[str]:
    return [
        str(row["date"]),
        names.get(row["organization_id"], str(row["organization_id"])),
        row["event_type"],
        f"{row['old_count'] or 0:,} -> {row['new_count'] or 0:,}",
        f"{row['old_unique_count'] or 0:,} -> {row['new_unique_count'] or 0:,}",
    ]


def _ledger_line(run: Row) -> list[str | int]:
    return [run["id"], run["job"], f"{run['window_start']:%Y-%m-%d}", run["status"], f"{run['seconds']:.2f}"]


def _farewell(show: Show) -> None:
    show.step("Try it yourself")
    if shutil.which("mauntic-jobs") is None:
        activate = Path(sys.prefix, "bin", "activate")
        show.command(f". {shlex.quote(str(activate))}" if activate.exists() else "pip install mauntic-jobs")
    show.pairs(_NEXT)
