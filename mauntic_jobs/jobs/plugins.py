"""Jobs of other packages, found by their entry points."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from mauntic_jobs.job import AnyJob, Job
from mauntic_jobs.jobs.plugin_names import GROUP
from mauntic_jobs.timekeeping.cron import check_cron

# Commands of another kind.
RESERVED = frozenset(
    {
        "alerts",
        "backfill",
        "config",
        "coverage",
        "explain",
        "help",
        "version",
        "db",
        "deliver",
        "deliveries",
        "demo",
        "dev",
        "dlq",
        "doctor",
        "enqueue",
        "metrics",
        "monitor",
        "new-job",
        "outbox",
        "providers",
        "recover",
        "runs",
        "schedule",
        "show",
        "status",
        "verify",
        "work",
    }
)

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@cache
def load_plugins() -> tuple[Mapping[str, AnyJob], Mapping[str, str]]:
    """Return the jobs of other packages by name, and why those that cannot be used cannot, by entry point."""
    loaded: dict[str, AnyJob] = {}
    broken: dict[str, str] = {}
    for entry_point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        place = f"entry point {entry_point.name} = {entry_point.value}"
        try:
            job = _checked(entry_point)
        # Whatever another's code does when it is imported, the other jobs have to go on.
        except Exception as error:  # noqa: BLE001
            broken[entry_point.name] = f"{place}: {type(error).__name__}: {error}"
        else:
            if job.name in loaded:
                broken[entry_point.name] = f"{place}: there is another job of this name"
            loaded.setdefault(job.name, job)
    return loaded, broken


def _checked(entry_point: EntryPoint) -> AnyJob:
    job = entry_point.load()
    if not isinstance(job, Job):
        raise TypeError(f"it is a {type(job).__name__}, not a mauntic_jobs.job.Job")
    if job.name != entry_point.name or not NAME.fullmatch(job.name):
        raise ValueError(f"the job's name is {job.name!r}: it must be that of the entry point, like send-digest")
    if job.name in RESERVED:
        raise ValueError(f"mauntic-jobs has another command {job.name}")
    check_cron(job.cron)
    return job
