"""`monitor`: conditions that need an operator."""

from collections.abc import Sequence
from typing import Annotated

import typer

from mauntic_jobs.alerts.alert import Alert
from mauntic_jobs.alerts.clock_skew import clock_skew
from mauntic_jobs.cli.documents.alerts import FoundAlertJson, MonitorJson
from mauntic_jobs.cli.framework.clock_watch import say_untold
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_table
from mauntic_jobs.cli.framework.scheduled_jobs import scheduled_jobs
from mauntic_jobs.cli.framework.signals import Signals
from mauntic_jobs.errors import ExitCode, MaunticJobsError, UsageError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob
from mauntic_jobs.ops.monitor.check import check
from mauntic_jobs.ops.monitor.watch import Watched, watch_all
from mauntic_jobs.runner.clock_skew import compare_clocks
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.telemetry import stderr
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_duration

app = new_app("Watch for conditions that need an operator, and check the jobs from a second host.")

_COLUMNS = ("cause", "severity", "summary", "action")


@command(app, "run", example="mauntic-jobs monitor run --once", prints=MonitorJson)
def run_monitor(
    settings: Settings,
    *,
    once: Annotated[bool, typer.Option("--once", help="Look once, and exit.")] = False,
    interval: Annotated[str, typer.Option(metavar="TIME", help="How long to wait between two looks.")] = "60s",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="With --once: print errors only.")] = False,
    json: JsonOutput = False,
) -> None:
    """Look for everything that raises an alert, tell of it, and of what is over. Stays, unless --once is given."""
    seconds = parse_duration(interval).total_seconds()
    if not once and seconds < 1:
        raise UsageError(f"--interval {interval} is too short: one second is the least.")
    jobs = list(scheduled_jobs(settings).values())
    if not once:
        _stay(settings, jobs, seconds)
        return
    watched = _watch(settings, jobs)
    if json:
        print_json(_as_json(watched))
    elif not quiet:
        print_table(_rows(watched.found), _COLUMNS)
    say_untold(watched.notified)
    raise typer.Exit(watched.exit_code)


@command(app, "check", example="mauntic-jobs monitor check --json", prints=list[FoundAlertJson])
def check_jobs(settings: Settings, *, json: JsonOutput = False) -> None:
    """Say which jobs are overdue, have missed slots or failed at last, by the ledger. Exits 1 if some are.

    For a second host: it needs Postgres only, and writes and sends nothing.
    """
    jobs = list(scheduled_jobs(settings).values())
    with connect(settings) as session:
        there, skew = compare_clocks(session, clock.now)
        wrong = [clock_skew(skew, settings)] if skew is not None else []
        wrong += check(Installation(settings, there, jobs, session=session))
    if json:
        print_json(_rows(wrong))
    elif wrong:
        print_table(_rows(wrong), _COLUMNS)
    else:
        print_line(f"{len(jobs)} jobs are well")
    raise typer.Exit(ExitCode.FAILED if wrong else ExitCode.DONE)


def _stay(settings: Settings, jobs: Sequence[AnyJob], seconds: float) -> None:
    from mauntic_jobs.cli.framework.scraping import Scraper
    from mauntic_jobs.telemetry.health import serve_health

    trouble: str | None = None
    health = serve_health(settings, lambda: (trouble is None, {"trouble": trouble}), metrics=Scraper(settings).numbers)
    with stderr.in_background(), Signals() as signals, health:
        log(f"monitor: looks every {seconds:g} s")
        while not signals.first.is_set():
            before = trouble
            watched, trouble = _look(settings, jobs)
            if trouble is not None and before is None:
                log(f"monitor: goes on trying: {trouble}")
            if watched is not None:
                say_untold(watched.notified)
                for title in watched.notified.told:
                    log(f"monitor: told of {title}")
            signals.first.wait(seconds)


def _watch(settings: Settings, jobs: Sequence[AnyJob]) -> Watched:
    with connect(settings) as session:
        there, skew = compare_clocks(session, clock.now)
        with Installation(settings, there, jobs, session=session) as installation:
            return watch_all(installation, log, skew)


def _look(settings: Settings, jobs: Sequence[AnyJob]) -> tuple[Watched | None, str | None]:
    try:
        return _watch(settings, jobs), None
    except MaunticJobsError as error:
        return None, str(error)
    except Exception as defect:  # noqa: BLE001 - it looks again, and /health tells of it meanwhile
        return None, f"{type(defect).__name__}: {defect}"


def _rows(alerts: Sequence[Alert]) -> list[FoundAlertJson]:
    return [
        {
            "cause": alert.cause,
            "about": alert.key,
            "severity": alert.severity,
            "summary": alert.summary,
            "action": alert.action,
            "details": dict(alert.details),
        }
        for alert in alerts
    ]


def _as_json(watched: Watched) -> MonitorJson:
    notified = watched.notified
    return {
        "alerts": _rows(watched.found),
        "told": list(notified.told),
        "untold": dict(notified.untold),
        "broken": dict(notified.broken),
        "unknown": {cause.value: str(error) for cause, error in watched.unknown.items()},
    }
