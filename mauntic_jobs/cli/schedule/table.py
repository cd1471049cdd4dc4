"""Output of the schedule: a line for each job and each task of upkeep, and remarks that need a look."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import cast

from mauntic_jobs.cli.documents.schedule import JobPauseJson, LastRunJson, StandingJson
from mauntic_jobs.cli.framework.output import log, print_line, print_table
from mauntic_jobs.job import Row
from mauntic_jobs.scheduler.overview import MISSED_WITHIN, Standing, TaskStanding
from mauntic_jobs.timekeeping.cron import in_words
from mauntic_jobs.wording import plural

_COLUMNS = ("job", "cron", "meaning", "from", "next", "last_run", "missed")


def print_overview(standings: Sequence[Standing]) -> None:
    """Print the table on stdout, and what is wrong on stderr."""
    from rich.text import Text

    def line(standing: Standing) -> Row:
        return {
            "job": Text(standing.job.name, "bold red" if standing.overdue_since else ""),
            "cron": standing.job.cron,
            "meaning": in_words(standing.job.cron),
            "from": standing.origin,
            "next": f"{standing.next:%m-%d %H:%M}",
            "last_run": Text(_last(standing), "red" if _is_bad(standing) else ""),
            "missed": standing.missed,
        }

    # Where a line comes from matters once one is set.
    is_set = any(standing.origin != "default" for standing in standings)
    columns = [column for column in _COLUMNS if is_set or column != "from"]
    print_table([line(standing) for standing in standings], columns)
    for standing in standings:
        for sentence in _findings(standing):
            log(sentence)


def print_tasks(standings: Sequence[TaskStanding]) -> None:
    """Print the tasks that the clock runs beside the jobs, on stdout, and those that fail on stderr."""
    from rich.text import Text

    if not standings:
        return
    rows: list[Row] = [
        {
            "task": Text(each.task.name, "bold red" if _failures(each) else ""),
            "cron": each.task.cron,
            "next": f"{each.next:%m-%d %H:%M}",
            "last_run": _last_of_task(each),
        }
        for each in standings
    ]
    print_line("")
    print_table(rows)
    for each in standings:
        if each.last is not None and _failures(each):
            times = plural(each.last["failures"], "time")
            log(f"{each.task.name}: failed {times} in a row, by {each.last['claimed_by']}: {each.last['error']}")


def _failures(standing: TaskStanding) -> int:
    return standing.last["failures"] if standing.last is not None else 0


def _last_of_task(standing: TaskStanding) -> str:
    if standing.last is None:
        return "never"
    if standing.last["finished_at"] is None:
        return f"{standing.last['started_at']:%m-%d %H:%M} running"
    how = "failed" if standing.last["failures"] else "succeeded"
    return f"{standing.last['started_at']:%m-%d %H:%M} {how}"


def _last(standing: Standing) -> str:
    if standing.last is None:
        return "never"
    return "{started_at:%m-%d %H:%M} {status} {seconds:.1f} s".format(**standing.last)


def _is_bad(standing: Standing) -> bool:
    return standing.last is not None and standing.last["status"] in ("failed", "lost")


def as_json(standing: Standing) -> StandingJson:
    """Return a standing as JSON writes it."""
    job = standing.job
    return {
        "job": job.name,
        "cron": job.cron,
        "meaning": in_words(job.cron),
        "catch_up": str(job.catch_up),
        "origin": standing.origin,
        "next": standing.next,
        "due": list(standing.due),
        "overdue_since": standing.overdue_since,
        "missed": standing.missed,
        "superseded": standing.superseded,
        "clocks": list(standing.clocks),
        "pause": cast("JobPauseJson", asdict(standing.pause)) if standing.pause else None,
        "last": cast("LastRunJson", dict(standing.last)) if standing.last else None,
    }


def _findings(standing: Standing) -> list[str]:
    name = standing.job.name
    found = [f"{name}: {sentence}." for sentence in standing.overruled]
    if standing.pause is not None:
        found.append(f"{name}: {standing.pause.sentence}. `mauntic-jobs schedule resume {name}` ends that.")
    if standing.overdue_since:
        found.append(
            f"{name}: overdue since {_time(standing.overdue_since)} UTC, {plural(len(standing.due), 'slot')} due: is "
            "its clock running? `mauntic-jobs schedule run` runs what is due."
        )
    if standing.missed:
        found.append(
            f"{name}: {plural(standing.missed, 'slot')} missed within {MISSED_WITHIN.days} days: `mauntic-jobs runs "
            f"list --job {name} --status missed` shows which, and --window makes up for them."
        )
    if len(standing.clocks) > 1:
        found.append(f"{name}: a second clock is on: its slots are claimed by {' and by '.join(standing.clocks)}.")
    return found


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else f"{instant:%Y-%m-%d %H:%M}"
