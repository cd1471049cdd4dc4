"""The platform's queues: what their keys are called, and whether something keeps them still."""

from collections.abc import Iterator

from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.finding import Finding, error, ok, warning
from mauntic_jobs.ops.queues import platform_queues
from mauntic_jobs.wording import plural

_AREA = "queues"
_KEYS = ("meta", "id", "wait", "paused", "active", "delayed", "prioritized", "completed", "failed", "events", "repeat")


def bases(site: Site) -> list[str]:
    """Return what the keys of each queue begin with, without the last colon."""
    return [queue.base for queue in platform_queues(site.settings, site.jobs)]


def _keys(site: Site) -> Iterator[Finding]:
    found = {base: site.redis.command("EXISTS", *(f"{base}:{name}" for name in _KEYS)) for base in bases(site)}
    if not any(found.values()):
        yield warning(
            f"none of the queues exists: keys begin with {site.settings.queue_prefix}:",
            "Check MAUNTIC_QUEUE_PREFIX, if the platform has put jobs on its queues",
        )
        return
    for base, keys in found.items():
        yield ok(f"{base} {'is there' if keys else 'has no keys yet'}")


def _paused(site: Site) -> Iterator[Finding]:
    troubles = [finding for base in bases(site) for finding in _pause(site, base)]
    yield from troubles or [ok("none is paused")]


def _pause(site: Site, base: str) -> Iterator[Finding]:
    marked = site.redis.command("HEXISTS", f"{base}:meta", "paused")
    waiting, paused = (site.redis.command("LLEN", f"{base}:{name}") for name in ("wait", "paused"))
    resume = f"redis-cli HDEL {base}:meta paused"
    move = f"redis-cli -r {paused} LMOVE {base}:paused {base}:wait LEFT RIGHT"
    if paused and waiting:
        yield error(
            f"{base} has {plural(paused, 'job')} in paused, where no worker takes them, beside {waiting:,} in wait, "
            "which BullMQ 5 loses when it resumes",
            f"{resume} && {move}" if marked else move,
        )
    elif marked or paused:
        yield error(
            f"{base} is paused, with {plural(waiting + paused, 'job')} waiting",
            f"{resume} && {move}" if paused else f"{resume}, and never pause a queue: stop its consumers",
        )


CHECKS = (
    Check(_AREA, "keys", _keys, Service.REDIS),
    Check(_AREA, "pause", _paused, Service.REDIS),
)
