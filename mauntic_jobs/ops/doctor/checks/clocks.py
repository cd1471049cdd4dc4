"""The clocks: whether more than one launches the jobs."""

from collections import defaultdict
from collections.abc import Iterator

from mauntic_jobs.bullmq.schedules import foreign_schedulers
from mauntic_jobs.installation import Installation
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.finding import Finding, ok, several, warning
from mauntic_jobs.runner.schedule_settings import overruled, read_stored
from mauntic_jobs.scheduler.overview import read_overview

_AREA = "clocks"
_UNSET = "mauntic-jobs schedule unset"


def _bullmq(site: Site) -> Iterator[Finding]:
    foreign = [finding for job in site.jobs for finding in _schedulers(site, job.queue)]
    yield from foreign or [ok("no other program has BullMQ schedule the jobs")]


def _schedulers(site: Site, queue: str) -> Iterator[Finding]:
    key = f"{site.settings.queue_prefix}:{queue}"
    for name, scheduler in foreign_schedulers(site.redis, key).items():
        pattern = f" ({scheduler.pattern})" if scheduler.pattern else ""
        yield warning(
            f"another program schedules {name}{pattern} on {key}: a second clock, unless it is meant to be the one",
            "Take it over with `mauntic-jobs schedule register --adopt`, or remove it in Node: "
            f"queue.removeJobScheduler('{name}'); version 4: queue.removeRepeatableByKey",
        )


def _overruled(site: Site) -> Iterator[Finding]:
    stored = read_stored(site.session)
    for job, schedule in stored.items():
        for sentence in overruled(job, schedule, site.settings):
            yield warning(sentence, f"Remove it from the settings of this host, or from the database: {_UNSET} {job}")
    if not stored:
        yield ok("the database sets no schedule: the settings of each clock decide")


def _ledger(site: Site) -> Iterator[Finding]:
    by_clocks: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for standing in read_overview(Installation(site.settings, site.now(), site.jobs, session=site.session)):
        if len(standing.clocks) > 1:
            by_clocks[tuple(standing.clocks)].append(standing.job.name)
    for clocks, names in by_clocks.items():
        yield warning(
            f"within 24 hours slots of {several(names)} were claimed by {' and by '.join(clocks)}",
            "Stop all clocks but one, unless several are meant: `mauntic-jobs schedule list`",
        )
    if not by_clocks:
        yield ok("each job is launched by one clock")


_SCHEDULES = ("mauntic_jobs.schedules",)

CHECKS = (
    Check(_AREA, "settings", _overruled, Service.POSTGRES, reads=_SCHEDULES),
    Check(_AREA, "bullmq", _bullmq, Service.REDIS),
    Check(_AREA, "ledger", _ledger, Service.POSTGRES, reads=("mauntic_jobs.runs", "mauntic_jobs.schedules")),
)
