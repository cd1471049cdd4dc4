"""The one screen of `status`: what needs an operator first, then jobs, queues, deliveries and warm-up."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mauntic_jobs import __version__
from mauntic_jobs.cli.framework.table_layout import wrapped
from mauntic_jobs.ops.figures.chart import ramp, sparkline
from mauntic_jobs.ops.queues import QueueKind
from mauntic_jobs.ops.status.findings import StatusFinding, findings, late_text, rough
from mauntic_jobs.ops.status.queues import QueueStatus
from mauntic_jobs.ops.status.read import FAILED_WITHIN, MAX_DELIVERIES, InstallationStatus, JobStatus, LateEvents
from mauntic_jobs.wording import plural

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_BARS_SHOWN = 16
_DOMAINS_SHOWN = 3
_LATE_SHOWN = 3
# Legible on white and on black.
_URGENT, _NOTABLE, _CALM, _WELL = "bold red", "bold", "dim", "bold green"
_MARK = "magenta"
_INDENT = "    "
_STATES = {
    "held": "held",
    "ambiguous": "ambiguous",
    "sending": "sending",
    "claimed": "claimed",
    "deferred": "deferred",
    "warming_up": "waiting for warm-up",
    "quiet_hours": "waiting for the end of quiet hours",
    "asked_to_wait": "deferred by receivers",
    "failed": f"failed within {FAILED_WITHIN // timedelta(hours=1)}h",
    "refused": f"refused for their recipients within {FAILED_WITHIN // timedelta(hours=1)}h",
    "expired": f"expired within {FAILED_WITHIN // timedelta(hours=1)}h",
}


def screen(status: InstallationStatus, width: int) -> "RenderableType":
    """Return everything as Rich renders it on a terminal of `width` columns; only commands may be longer."""
    from rich.console import Group
    from rich.text import Text

    known = findings(status)
    parts: list[RenderableType] = [_title(status, known), *_lines(known, width), Text()]
    if status.jobs is not None:
        parts += [_jobs(status.jobs, known, status.at), Text()]
    if status.queues is not None:
        parts += [_queues(status.queues, known), Text()]
    if status.deliveries is not None:
        parts.append(_deliveries(status))
    if status.domains:
        parts.append(_domains(status))
    if status.late:
        parts.append(_late(status.late))
    return Group(*parts)


def _title(status: InstallationStatus, known: Sequence[StatusFinding]) -> "Text":
    from rich.text import Text

    urgent = sum(each.urgent for each in known)
    verdict = ("all is well", _WELL) if not known else ("nothing is urgent", _NOTABLE)
    if urgent:
        verdict = (f"{urgent} to act on", _URGENT)
    return _line(Text.assemble(f"mauntic-jobs {__version__}  {status.at:%Y-%m-%d %H:%M:%S}Z  ", verdict))


def _lines(known: Sequence[StatusFinding], width: int) -> "Iterator[Text]":
    from rich.text import Text

    for each in known:
        mark, style = ("!", _URGENT) if each.urgent else ("-", _MARK)
        first, *more = wrapped(f"{each.subject}: {each.text}", width, "  ", _INDENT)
        yield _line(Text.assemble((f"{mark} ", style), (first[2:], _URGENT if each.urgent else "")))
        for line in more:
            yield _line(Text(line, _URGENT if each.urgent else ""))
        if each.command:
            yield _line(Text(f"{_INDENT}{each.command}"))


def _jobs(jobs: Sequence[JobStatus], known: Sequence[StatusFinding], now: datetime) -> "Table":
    from rich.text import Text

    table = _table("job", "last", ">age", ">took", ">next in", "history")
    for job in jobs:
        last, style = job.standing.last, _style(job.standing.job.name, known)
        table.add_row(
            Text(job.standing.job.name, style),
            Text(job.result or "never run", style),
            rough(now - last["started_at"]) if last else "-",
            _seconds(last["seconds"]) if last else "-",
            rough(job.standing.next - now),
            Text(_history(job), "cyan"),
        )
    return table


def _queues(queues: Sequence[QueueStatus], known: Sequence[StatusFinding]) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    table = _table("queue", ">waiting", ">active", ">delayed", ">failed", ">done/min")
    quiet = [each for each in queues if each.queue.kind is QueueKind.SCHEDULED and each.empty]
    for each in queues:
        if each in quiet:
            continue
        numbers = (each.ready, each.active, each.delayed, each.failed, each.completed_last_minute)
        cells = [Text(f"{number:,}", "" if number else _CALM) for number in numbers]
        table.add_row(Text(each.queue.name, _style(each.queue.name, known)), *cells)
    if not quiet:
        return table
    return Group(table, Text(f"{plural(len(quiet), 'queue')} of scheduled jobs empty", _CALM))


def _deliveries(status: InstallationStatus) -> "Text":
    from rich.text import Text

    counts: dict[str, int] = {}
    for row in status.deliveries or []:
        counts[row["state"]] = counts.get(row["state"], 0) + row["deliveries"]
    style = {"held": _URGENT, "deferred": _NOTABLE, "expired": _NOTABLE}
    line = Text("deliveries  ")
    for state, meaning in _STATES.items():
        if counts.get(state):
            more = "+" if counts[state] >= MAX_DELIVERIES else ""
            line.append(f"{counts[state]:,}{more} {meaning}  ", style.get(state, ""))
    if not counts:
        line.append("none is open", _CALM)
    return line


def _domains(status: InstallationStatus) -> "Text":
    from rich.text import Text

    domains = status.domains or []
    named = [f"{each.name} {each.sent:,} of {each.limit:,}" for each in domains[:_DOMAINS_SHOWN]]
    more = f" and {len(domains) - _DOMAINS_SHOWN} more" if len(domains) > _DOMAINS_SHOWN else ""
    return Text(f"warm-up     near the day's limit: {', '.join(named)}{more}")


def _late(late: Sequence[LateEvents]) -> "Text":
    from rich.text import Text

    named = ", ".join(late_text(each) for each in late[:_LATE_SHOWN])
    more = f" and {len(late) - _LATE_SHOWN} more" if len(late) > _LATE_SHOWN else ""
    return Text(f"late        {named}{more}")


def _history(job: JobStatus) -> str:
    """Return how long the latest successes took, as bars; the longest is the highest."""
    return sparkline([round(each * 1000) for each in job.seconds[-_BARS_SHOWN:]], ramp(sys.stdout.encoding))


def _style(subject: str, known: Sequence[StatusFinding]) -> str:
    about = [each for each in known if subject in each.subject.split(", ")]
    if any(each.urgent for each in about):
        return _URGENT
    return _NOTABLE if about else ""


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    return table


def _line(text: "Text") -> "Text":
    text.no_wrap, text.overflow = True, "ignore"
    return text


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 60 else rough(timedelta(seconds=seconds))  # noqa: PLR2004 - a minute
