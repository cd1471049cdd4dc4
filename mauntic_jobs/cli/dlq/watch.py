"""`dlq watch`: thresholds of number, growth and age of dead letters."""

from typing import Annotated

import typer

from mauntic_jobs.cli.dlq.options import Where, opened
from mauntic_jobs.cli.dlq.output import ago
from mauntic_jobs.cli.documents.dead_letters import LettersWatchedJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.output import log, print_json, print_table
from mauntic_jobs.cli.framework.signals import Signals
from mauntic_jobs.cli.monitor import say_untold
from mauntic_jobs.errors import ExitCode, MaunticJobsError, UsageError
from mauntic_jobs.ops.dead_letters.alerts import alert
from mauntic_jobs.ops.dead_letters.filter.parser import Where as Condition, parse_where
from mauntic_jobs.ops.dead_letters.survey import Look, look
from mauntic_jobs.ops.dead_letters.thresholds import Thresholds
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_duration

_DEFAULT = Thresholds()
_PANEL = "Thresholds"


def register_watch(app: typer.Typer) -> None:
    """Add the command to the group."""
    command(app, "watch", example="mauntic-jobs dlq watch --once", prints=LettersWatchedJson)(watch_letters)


def watch_letters(
    settings: Settings,
    *,
    once: Annotated[bool, typer.Option("--once", help="Look once, and exit 1 if there is something.")] = False,
    interval: Annotated[str, typer.Option(metavar="TIME", help="How long to wait between two looks.")] = "60s",
    depth: Annotated[
        int, typer.Option(min=0, metavar="N", help="Dead letters of a queue.", rich_help_panel=_PANEL)
    ] = _DEFAULT.depth,
    growth: Annotated[
        int, typer.Option(min=0, metavar="N", help="Those that came within the window.", rich_help_panel=_PANEL)
    ] = _DEFAULT.growth,
    window: Annotated[str, typer.Option(metavar="TIME", help="What counts as recent.", rich_help_panel=_PANEL)] = "1h",
    age: Annotated[str, typer.Option(metavar="TIME", help="Of the oldest.", rich_help_panel=_PANEL)] = "24h",
    where: Where = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    json: JsonOutput = False,
) -> None:
    """Look whether a queue, or the ledger of runs, is over a threshold; alert once, and once when it is over.

    Letters that failed because of their recipients are counted, and are over no threshold.
    """
    thresholds = Thresholds(depth, growth, parse_duration(age), parse_duration(window))
    pause = parse_duration(interval).total_seconds()
    if not pause or not thresholds.window:
        raise UsageError("--interval and --window must be longer than nothing.")
    condition = parse_where(where) if where is not None else None
    if once:
        raise typer.Exit(_look(settings, thresholds, where, condition, json=json, quiet=quiet))
    with Signals() as signals:
        while not signals.first.is_set():
            try:
                _look(settings, thresholds, where, condition, json=json, quiet=quiet)
            except MaunticJobsError as error:
                if not error.transient:
                    raise
                log(f"goes on trying: {error}")
            signals.first.wait(pause)


def _look(
    settings: Settings,
    thresholds: Thresholds,
    text: str | None,
    where: Condition | None,
    *,
    json: bool,
    quiet: bool,
) -> ExitCode:
    now = clock.now()
    with opened(settings, now) as box:
        seen = look(box, thresholds, text, where)
        told = alert(box, seen)
    if json:
        print_json(_as_json(seen))
    elif not quiet:
        print_table(
            [
                {
                    "queue": each.queue,
                    "dead_letters": each.depth,
                    "recent": each.growth,
                    "oldest": ago(each.oldest, now) if each.oldest else None,
                    "refused_recipients": each.recipients,
                }
                for each in seen.standings
            ]
        )
    for finding in () if quiet else seen.findings:
        log(f"{finding.queue}: {finding.sentence}")
    say_untold(told)
    if told.untold:
        return ExitCode.ALERT_UNDELIVERABLE
    return ExitCode.FAILED if seen.findings else ExitCode.DONE


def _as_json(seen: Look) -> LettersWatchedJson:
    return {
        "queues": [
            {
                "queue": each.queue,
                "depth": each.depth,
                "growth": each.growth,
                "oldest": each.oldest,
                "recipients": each.recipients,
            }
            for each in seen.standings
        ],
        "findings": [
            {"queue": each.queue, "measure": each.measure, "sentence": each.sentence} for each in seen.findings
        ],
    }
