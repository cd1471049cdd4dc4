"""Programs of the platform that still do what mauntic-jobs does: workers, aggregations and inserts."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import chain, islice

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.errors import ConfigurationError, JobFailedError
from mauntic_jobs.ops.dead_letters.failed_set import failed_jobs
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.finding import Finding, error, not_checked, ok, warning
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.workers import foreign_workers
from mauntic_jobs.timekeeping.epoch import milliseconds
from mauntic_jobs.wording import plural

_AREA = "platform"
_STOP = "Stop it there, by docs/cut-over.md"
_RECENT = timedelta(hours=25)
_MAX_FAILED = 200

_sql = statements("rollup_days")


def _workers(site: Site) -> Iterator[Finding]:
    try:
        clients = chain.from_iterable(site.redis.on_each_node("CLIENT LIST").values())
    except (ConfigurationError, JobFailedError):  # managed services allow no CLIENT LIST
        yield not_checked("workers cannot be seen: the user may not list connections")
        return
    counts = foreign_workers(clients)
    scheduled = [f"{site.settings.queue_prefix}:{job.queue}" for job in site.jobs]
    deliveries = [base_of(site.settings, channel) for channel in CHANNELS]
    for base in scheduled:
        if counts[base]:
            workers = plural(counts[base], "connection")
            yield error(
                f"a BullMQ worker of another program works on {base} ({workers}): it runs the job as well", _STOP
            )
    for base in deliveries:
        if counts[base]:
            workers = plural(counts[base], "connection")
            yield warning(
                f"a BullMQ worker of another program takes messages from {base} ({workers}): if either ends in the "
                "middle of a message, the other may send it a second time, and neither notices",
                _STOP,
            )
    if not any(counts[base] for base in (*scheduled, *deliveries)):
        yield ok("no BullMQ worker of another program works on the queues")


def _inserts(site: Site) -> Iterator[Finding]:
    bases = dict.fromkeys(f"{site.settings.queue_prefix}:{job.queue}" for job in site.jobs)
    found = [(base, _refused(site, base)) for base in bases]
    for base, count in found:
        if count:
            yield error(
                f"{plural(count, 'job')} of {base} failed in another program, whose rows the unique keys refused: it "
                "still writes what mauntic-jobs has written",
                _STOP,
            )
    if not any(count for _, count in found):
        yield ok("no row of another program was refused by the unique keys")


def _refused(site: Site, base: str) -> int:
    now = site.now()
    since, until = milliseconds(now - _RECENT), milliseconds(now)
    pages = failed_jobs(site.redis, base, ["failedReason"], since=since, until=until, newest_first=True)
    recent = islice((job for page in pages for job in page), _MAX_FAILED)
    reasons = (job.fields.get("failedReason", "") for job in recent)
    return sum("duplicate key" in reason and "mauntic_jobs_" in reason for reason in reasons)


def _rollups(site: Site) -> Iterator[Finding]:
    rows = site.session.rows(_sql["foreign"], {"since": site.now() - _RECENT})
    for row in rows:
        events = plural(abs(row["foreign_events"]), "event")
        by = "raised" if row["foreign_events"] > 0 else "lowered"
        yield error(f"another program has {by} the daily rollups of {row['date']} by {events}", _STOP)
    if not rows:
        yield ok("no other program has changed the daily rollups within a day")


CHECKS = (
    Check(_AREA, "workers", _workers, Service.REDIS),
    Check(_AREA, "inserts", _inserts, Service.REDIS),
    Check(_AREA, "rollups", _rollups, Service.POSTGRES, reads=("mauntic_jobs.rollup_days",)),
)
