"""The crontab: whether it calls the jobs as the registry and the settings want it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mauntic_jobs.ops.doctor.check import Check, Site
from mauntic_jobs.ops.doctor.finding import Finding, error, ok, several, warning
from mauntic_jobs.scheduler.exports.crontab import COMMAND
from mauntic_jobs.scheduler.exports.systemd import unit_name
from mauntic_jobs.scheduler.upkeep import CLOCK, TASKS
from mauntic_jobs.sql import statements

_SECONDS = 5
_UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
# The task that runs least often runs each day.
_STARTED_WITHIN = timedelta(days=2)
_sql = statements("upkeep")
_HERE = Path("crontab")
_LINE = re.compile(r"(?P<cron>@\w+|(?:\S+\s+){4}\S+)\s+(?P<command>\S.*)")
_CALL = re.compile(r"\bmauntic[-_]jobs\s+(?P<words>[^\s|;&>][^|;&>]*)")
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}


@dataclass(frozen=True)
class _Entry:
    """A line that calls mauntic-jobs: its number, when, and with what arguments."""

    number: int
    cron: str
    words: list[str]


def _look(site: Site) -> Iterator[Finding]:
    given = site.crontab or (_HERE if _HERE.is_file() else None)
    if given is not None:
        try:
            yield from _compare(site, str(given), given.read_text("utf-8", errors="replace"), is_given=True)
        except OSError as problem:
            yield error(f"{given} cannot be read: {problem.strerror}", "Name the file that cron reads")
    if site.crontab is None:
        yield from _compare(site, "the crontab of this user", _installed(), is_given=False)


def _installed() -> str:
    program = shutil.which("crontab")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, "-l"], capture_output=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def _compare(site: Site, name: str, text: str, *, is_given: bool) -> Iterator[Finding]:
    entries = list(_entries(text))
    if not entries:
        nothing = f"{name} does not call mauntic-jobs"
        yield warning(nothing, f"{COMMAND} writes one that does") if is_given else ok(nothing)
        return
    wanted = {job.name: job.cron for job in site.stored_jobs()}
    called = {entry.words[0] for entry in entries}
    drift = [*_drift(name, entries, wanted), *_upkeep(site, name, entries)]
    scheduled = any(entry.words[:2] == ["schedule", "run"] for entry in entries)
    missing = [] if scheduled or not called & set(wanted) else [job for job in wanted if job not in called]
    if missing:
        drift.append(error(f"{name} has no line for {several(missing)}", f"{COMMAND}, and install it"))
    yield from drift or [ok(f"{name} calls the jobs at their times")]


def _upkeep(site: Site, name: str, entries: list[_Entry]) -> Iterator[Finding]:
    """Yield a warning if the crontab runs jobs, and nothing watches or prunes: no line, no unit and no clock."""
    called = [" ".join(entry.words) for entry in entries]
    clock_here = any(words.startswith("schedule run") for words in called)
    if site.settings.upkeep and (clock_here or _has_unit(CLOCK.name)):
        return
    started = _started(site)
    absent = [
        _command(task.command)
        for task in TASKS
        if not (started if task.on_demand else task.name in started)
        and not _has_unit(task.name)
        and not any(words.startswith(_command(task.command)) for words in called)
    ]
    if absent:
        lines = several([f"`{command}`" for command in absent])
        yield warning(f"{name} has no line for {lines}, and no clock runs that", f"{COMMAND}, and install it")


def _has_unit(name: str) -> bool:
    return any((place / unit_name(name)).exists() for place in _UNITS)


def _started(site: Site) -> set[str]:
    """Return the tasks that a clock, on whichever host, has started of late."""
    rows = site.if_reached(lambda session: session.rows(_sql["started"], {"within": _STARTED_WITHIN}))
    return {row["task"] for row in rows or []}


def _command(once: str) -> str:
    """Return the words of a command without its options."""
    return once.partition(" --")[0]


def _entries(text: str) -> Iterator[_Entry]:
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line.strip())
        call = _CALL.search(match["command"]) if match and not line.lstrip().startswith("#") else None
        if match and call:
            cron = " ".join(match["cron"].split())
            yield _Entry(number, _NICKNAMES.get(cron, cron), call["words"].split())


def _drift(name: str, entries: list[_Entry], wanted: dict[str, str]) -> Iterator[Finding]:
    for entry in entries:
        job = entry.words[0]
        if job in wanted and entry.cron != wanted[job]:
            yield error(
                f"{name}, line {entry.number}: {job} is called at `{entry.cron}`, and is due at `{wanted[job]}`",
                f"{COMMAND}, and install it; or set jobs.{job}.cron",
            )
        elif entry.words[:2] == ["dlq", "watch"]:
            text = f"{name}, line {entry.number}: `dlq watch` is a part of `monitor run`"
            yield error(text, f"{COMMAND}, and install it; its thresholds are the setting dead_letters")
        elif job not in wanted and "--slot" in entry.words:
            yield error(f"{name}, line {entry.number}: there is no job {job}", f"{COMMAND}, and install it")


CHECKS = (Check("crontab", "lines", _look),)
