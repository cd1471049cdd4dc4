"""Postgres: whether it is reached, by whom, and how."""

from collections.abc import Iterator
from datetime import timedelta

from mauntic_jobs.migrations.upgrade import OLDEST_SERVER
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.clock_skew import skew
from mauntic_jobs.ops.doctor.finding import Finding, error, ok, warning
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import open_session

_AREA = "postgres"
# Clocks that differ by less are those of one zone; an event within the hour was written just now.
_CLOSE, _RECENT = timedelta(minutes=10), timedelta(hours=1)
# So long a read replica may lag.
_PATIENCE = timedelta(seconds=3)

_sql = statements("doctor")


def _connection(site: Site) -> Iterator[Finding]:
    site.session = open_session(site.settings)
    yield ok(f"{site.session.wire.host or 'this machine'} answers")


def _version(site: Site) -> Iterator[Finding]:
    version = site.session.server_version // 10_000
    if version < OLDEST_SERVER:
        yield error(f"it is version {version}, and {OLDEST_SERVER} or later is needed", "Upgrade the server")
    else:
        yield ok(f"it is version {version}")


def _role(site: Site) -> Iterator[Finding]:
    server = site.session.row(_sql["server"])
    role = server["role"]
    if server["superuser"] and not site.settings.embedded:
        yield warning(
            f"{role} is a superuser, who may do anything to any organization's rows",
            "Use a role with the grants of docs/database.md",
        )
    elif server["bypasses_row_security"]:
        yield ok(f"{role} bypasses row-level security, as a role that counts for all organizations may")
    else:
        yield ok(f"{role} is neither a superuser nor bypasses row-level security")


def _writing(site: Site) -> Iterator[Finding]:
    server = site.session.row(_sql["server"])
    if server["standby"]:
        yield error("the server is a standby, and nothing can be written to it", "Name the primary in DATABASE_URL")
    elif server["read_only"]:
        yield error(
            f"transactions of {server['role']} are read-only",
            f"ALTER ROLE {server['role']} RESET default_transaction_read_only, or do so for the database",
        )
    else:
        yield ok("transactions may write")


def _pooler(site: Site) -> Iterator[Finding]:
    if site.session.row(_sql["server"])["backend"] == site.session.wire.backend:
        yield ok("it is reached directly, without a pooler")
    else:
        yield ok("it is reached through a pooler or a proxy", "Give `db upgrade` of a large table a direct connection")


def _replica(site: Site) -> Iterator[Finding]:
    if site.settings.database_read_url is None:
        yield ok("no read replica is named: the primary is read for large scans")
        return
    (replica,) = site.session.read(_sql["replica"], patience=_PATIENCE)
    if replica["ends_scans"]:
        yield warning(
            f"the read replica may cancel a scan that takes longer than {replica['patience']}: the run is tried again",
            "Set hot_standby_feedback = on at the replica, or a longer max_standby_streaming_delay",
        )
    else:
        yield ok("the read replica sees what the primary has committed")


def _time_zone(site: Site) -> Iterator[Finding]:
    server = site.session.row(_sql["server"])
    if server["time_zone"] == site.settings.platform_timezone:
        yield ok(f"new connections are in {server['time_zone']}, as platform_timezone says")
    elif server["time_zone"] in ("UTC", "Etc/UTC", "GMT", "UCT", "Etc/UCT", "Zulu", "Universal"):
        yield ok("new connections are in UTC")
    else:
        yield warning(
            f"new connections are in {server['time_zone']}: what the platform writes by default is not in UTC",
            f"{_set_utc(site)}, and the same for roles that have their own",
        )


def _event_times(site: Site) -> Iterator[Finding]:
    settings = site.settings
    times = site.session.row(_sql["newest_event"], {"zone": settings.platform_timezone})
    newest, expected, by_default = times["newest"], times["expected"], times["by_default"]
    zone = site.session.row(_sql["server"])["time_zone"]
    if newest is None:
        yield ok("there are no events")
    elif abs(by_default - expected) > _CLOSE and -_CLOSE < by_default - newest < _RECENT:
        yield error(
            f"the newest event is of {newest:%H:%M}, which is the time in {zone}, while it is {expected:%H:%M} in "
            f"{settings.platform_timezone}: events near the ends of days are counted late, or lost",
            f'Set platform_timezone = "{zone}", or let the platform write UTC: {_set_utc(site)}',
        )
    elif newest - expected > _CLOSE:
        yield error(
            f"the newest event is {(newest - expected) // timedelta(minutes=1)} minutes ahead of the clock in "
            f"{settings.platform_timezone}",
            "Set platform_timezone to the zone in which the platform writes contact_activity.created_at",
        )
    else:
        yield ok(f"events are in {settings.platform_timezone}")


def _set_utc(site: Site) -> str:
    return f"ALTER DATABASE {site.session.row(_sql['server'])['database']} SET timezone TO 'UTC'"


def _clock(site: Site) -> Iterator[Finding]:
    yield skew(Service.POSTGRES, lambda: site.session.row(_sql["clock"])["now"], site.now)


CONNECTION = Check(_AREA, "connection", _connection, Service.POSTGRES)
CHECKS = (
    Check(_AREA, "version", _version, Service.POSTGRES),
    Check(_AREA, "role", _role, Service.POSTGRES),
    Check(_AREA, "writing", _writing, Service.POSTGRES),
    Check(_AREA, "pooler", _pooler, Service.POSTGRES),
    Check(_AREA, "replica", _replica, Service.POSTGRES),
    Check(_AREA, "time_zone", _time_zone, Service.POSTGRES),
    Check(_AREA, "event_times", _event_times, Service.POSTGRES, reads=("analytics.contact_activity",)),
    Check(_AREA, "clock", _clock, Service.POSTGRES),
)
