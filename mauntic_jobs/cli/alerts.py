"""`alerts`: the alerts, their notifications, and a test of the channels."""

import socket
import time
from typing import Annotated

import typer

from mauntic_jobs.alerts import ledger
from mauntic_jobs.cli.documents.alerts import AlertJson, ChannelTestJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.options import Limit, Wide
from mauntic_jobs.cli.framework.output import print_json, print_table
from mauntic_jobs.errors import ConfigurationError, ExitCode, UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_ago

app = new_app("Alerts: what was told to whom, and whether the channels work.")

_COLUMNS = ("opened", "state", "severity", "summary", "seen", "told_by", "next")


@command(app, "test", example="mauntic-jobs alerts test --channel 1", prints=list[ChannelTestJson])
def try_channels(
    settings: Settings,
    *,
    channel: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the channel of this number.")] = None,
    json: JsonOutput = False,
) -> None:
    """Send a test message to every channel, also to those that only stand in. Exits 74 if one does not take it."""
    if not settings.alerts:
        raise ConfigurationError("There is no channel for alerts: set `alerts`, as docs/alerts.md shows.")
    if channel is not None and channel > len(settings.alerts):
        raise UsageError(f"There is no channel {channel}: there are {len(settings.alerts)}.")
    rows = _tried(settings, channel)
    if json:
        print_json(rows)
    else:
        print_table(rows)
    if any(row["problem"] for row in rows):
        raise typer.Exit(ExitCode.ALERT_UNDELIVERABLE)


@command(app, "list", example="mauntic-jobs alerts list --open", prints=list[AlertJson])
def list_alerts(
    settings: Settings,
    *,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 24h: noticed no longer ago.")] = None,
    limit: Limit = 20,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """List alerts, those opened last first: what was noticed, who was told, and what to do next."""
    noticed_after = None if since is None else parse_ago(since, clock.now())
    with connect(settings) as session:
        rows = ledger.list_alerts(session, only_open=only_open, since=noticed_after, limit=limit)
    if json:
        print_json(rows)
    else:
        print_table([_line(row) for row in rows], _COLUMNS, wide=wide)


def _tried(settings: Settings, number: int | None) -> list[ChannelTestJson]:
    from mauntic_jobs.alerts.dispatch import attempt, channels_of
    from mauntic_jobs.alerts.notice import trial_notice

    channels = channels_of(settings)
    rows: list[ChannelTestJson] = []
    for channel in channels if number is None else [channels[number - 1]]:
        notice = trial_notice(settings.launcher_id or socket.gethostname(), clock.now())
        began = time.monotonic()
        problem = attempt(channel, notice, settings.alert_timeout.total_seconds())
        result = "taken" if problem is None else "failed"
        seconds = round(time.monotonic() - began, 3)
        rows.append({"channel": channel.name, "result": result, "seconds": seconds, "problem": problem})
    return rows


def _line(row: Row) -> Row:
    told_by = row["notified_by"] if row["notified_at"] else None
    return {
        "opened": row["opened_at"],
        "state": "over" if row["closed_at"] else "open",
        "severity": row["severity"],
        "summary": row["summary"],
        "seen": row["seen"],
        "told_by": told_by if row["problem"] is None else f"no channel: {row['problem']}",
        "next": row["action"],
    }
