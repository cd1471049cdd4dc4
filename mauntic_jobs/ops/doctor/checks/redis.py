"""Redis: whether it is reached, and whether it keeps what is put on its queues."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from mauntic_jobs.errors import ConfigurationError, JobFailedError
from mauntic_jobs.lua import script
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.checks.queues import bases
from mauntic_jobs.ops.doctor.clock_skew import skew
from mauntic_jobs.ops.doctor.finding import Finding, error, not_checked, ok, warning
from mauntic_jobs.recovery.marker import look, read_marker
from mauntic_jobs.stores.redis.client import open_redis

_AREA = "redis"
# What BullMQ demands, and what it recommends.
_OLDEST, _RECOMMENDED = (5, 0), (6, 2)
_FULL, _NEARLY_FULL = 0.95, 0.8


def _connection(site: Site) -> Iterator[Finding]:
    site.redis = open_redis(site.settings)
    yield ok("it answers")


def _version(site: Site) -> Iterator[Finding]:
    for it, server in _infos(site, "server"):
        # Others say which version of Redis they are compatible with.
        spoken = str(server.get("redis_version", "0"))
        version = tuple(int(part) for part in spoken.split(".")[:2] if part.isdecimal())
        name = f"Valkey {server['valkey_version']}" if "valkey_version" in server else f"Redis {spoken}"
        if version < _OLDEST:
            yield error(f"{it} is {name}, and BullMQ needs 5.0 or later", "Upgrade the server")
        elif version < _RECOMMENDED:
            yield warning(f"{it} is {name}, and BullMQ recommends 6.2 or later", "Upgrade the server")
        else:
            yield ok(f"{it} is {name}")


def _role(site: Site) -> Iterator[Finding]:
    for it, replication in _infos(site, "replication"):
        if replication.get("role") in ("slave", "replica"):
            yield error(f"{it} is a replica, and nothing can be written to it", "Name the primary in REDIS_URL")
        else:
            yield ok(f"{it} is no replica")


def _eviction(site: Site) -> Iterator[Finding]:
    for it, memory in _infos(site, "memory"):
        policy, its = memory.get("maxmemory_policy"), _prefix(it)
        if policy is None:
            yield not_checked(
                f"{its}maxmemory-policy cannot be read", "See in your provider's console that it is noeviction"
            )
        elif policy != "noeviction":
            yield error(
                f"{its}maxmemory-policy is {policy}: with its memory full it throws jobs away",
                "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in its configuration",
            )
        else:
            yield ok(f"{its}maxmemory-policy is noeviction")


def _memory(site: Site) -> Iterator[Finding]:
    for it, memory in _infos(site, "memory"):
        used, most = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
        share = used / most if most else 0.0
        if share >= _NEARLY_FULL:
            found = error if share >= _FULL else warning
            yield found(
                f"{_prefix(it)}{share:.0%} of its memory is used", "Raise its maxmemory, or empty what fills it"
            )
        else:
            text = f"{share:.0%} of its memory is used" if most else "its memory has no limit of its own"
            yield ok(f"{_prefix(it)}{text}")


def _persistence(site: Site) -> Iterator[Finding]:
    saves: Mapping[str, str | None] = {}
    with suppress(ConfigurationError, JobFailedError):  # managed services allow no CONFIG
        found = site.redis.on_each_node("CONFIG GET", "save")
        saves = {_name(node): answer.get("save") or "" for node, answer in found.items()}
    for it, kept in _infos(site, "persistence"):
        failed = [name for name in ("aof_last_write_status", "rdb_last_bgsave_status") if kept.get(name) == "err"]
        if failed:
            yield error(f"{it} could not write to its disk ({failed[0]} is err)", "Look at its disk and its log")
        elif int(kept.get("aof_enabled", 0)):
            yield ok(f"{it} appends what changes to a file")
        else:
            yield _snapshots(it, saves.get(it))


def _snapshots(it: str, saves: str | None) -> Finding:
    if saves is None:
        return not_checked(f"{it} appends to no file, and whether it keeps snapshots cannot be read")
    on = "redis-cli CONFIG SET appendonly yes, and the same in its configuration"
    if not saves:
        return warning(f"{it} keeps nothing on disk: when it restarts, the jobs on its queues are gone", on)
    return ok(f"{it} keeps snapshots: in a crash it loses what came after the last one", on)


def _scripts(site: Site) -> Iterator[Finding]:
    keys = [f"{base}:meta" for base in bases(site)] + ["delivery:idem:probe", "warmup:daily:probe"]
    site.redis.run(script("probe"), [([key], []) for key in keys])
    yield ok("its user may run scripts on the queues")


def _clock(site: Site) -> Iterator[Finding]:
    # In a cluster it is the node that has the queues of `queue_prefix`.
    def ask() -> datetime:
        seconds, microseconds = site.redis.command("TIME")
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)

    yield skew(Service.REDIS, ask, site.now)


def _loss(site: Site) -> Iterator[Finding]:
    # Postgres is reached before; where it was not, its own checks say so.
    session = getattr(site, "session", None)
    marker = read_marker(session, site.settings) if session is not None else None
    loss = look(marker, site.redis, site.settings, site.now())
    if loss is not None:
        yield error(loss.sentence.rstrip("."), "Run `mauntic-jobs recover`, which shows what it would restore")
    elif marker is None:
        yield ok("no look has marked it yet, by which a loss of its data would be noticed")
    else:
        yield ok("it has lost nothing since it was last looked at")


def _infos(site: Site, section: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what the server says of itself, with the word for it; in a cluster each node."""
    for node, found in site.redis.on_each_node("INFO", section).items():
        yield _name(node), found


def _name(node: str) -> str:
    return f"the node {node}" if node else "it"


def _prefix(it: str) -> str:
    return "" if it == "it" else f"{it}: "


CONNECTION = Check(_AREA, "connection", _connection, Service.REDIS)
CHECKS = (
    Check(_AREA, "version", _version, Service.REDIS),
    Check(_AREA, "role", _role, Service.REDIS),
    Check(_AREA, "eviction", _eviction, Service.REDIS),
    Check(_AREA, "memory", _memory, Service.REDIS),
    Check(_AREA, "persistence", _persistence, Service.REDIS),
    Check(_AREA, "scripts", _scripts, Service.REDIS),
    Check(_AREA, "clock", _clock, Service.REDIS),
    Check(_AREA, "loss", _loss, Service.REDIS),
)
