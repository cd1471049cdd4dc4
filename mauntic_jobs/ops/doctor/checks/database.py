"""The database: the schema mauntic_jobs, the indexes on the platform's tables, and what the role may do with them."""

from collections.abc import Iterator

from mauntic_jobs.migrations.files import migrations
from mauntic_jobs.migrations.indexes import INDEXES, IndexState, PlatformIndex, states, surplus
from mauntic_jobs.migrations.platform import SCHEMAS
from mauntic_jobs.migrations.upgrade import applied_versions, missing_tables
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.checks.grants import DELIVERING, RUNNING_JOBS, lacking, unreadable
from mauntic_jobs.ops.doctor.finding import Finding, error, not_checked, ok, several, warning
from mauntic_jobs.sql import statements
from mauntic_jobs.wording import plural

_AREA = "database"
_RECORD = "mauntic_jobs.migrations"
_UPGRADE = "mauntic-jobs db upgrade"
_GRANT = "Grant what docs/database.md lists"
# Who may not add to a ledger is not meant to do what it records.
_LEDGERS = {"run jobs": ("mauntic_jobs.runs", RUNNING_JOBS), "deliver": ("mauntic_jobs.deliveries", DELIVERING)}

_sql = statements("doctor")


def _platform(site: Site) -> Iterator[Finding]:
    missing = missing_tables(site.session)
    if missing:
        yield error(f"it lacks tables of the platform: {several(missing)}", "Check DATABASE_URL")
    else:
        yield ok("the platform's tables are there")


def _migrations(site: Site) -> Iterator[Finding]:
    closed, _ = unreadable(site.session, [_RECORD])
    if closed:
        yield not_checked(f"the role may not read {_RECORD}", f"GRANT SELECT ON {_RECORD} to the role")
        return
    applied = applied_versions(site.session)
    pending = [str(migration) for migration in migrations() if migration.version not in applied]
    if pending:
        yield error(f"migrations are pending: {several(pending)}", _UPGRADE)
    else:
        yield ok(f"all {len(applied)} migrations are applied")


def _indexes(site: Site) -> Iterator[Finding]:
    absent = missing_tables(site.session)
    found = {
        index: state
        for index, state in states(site.session).items()
        if state is not IndexState.PRESENT and index.table not in absent
    }
    for index, state in found.items():
        yield _index(site, index, state)
    if not found:
        yield ok(f"all {len(INDEXES)} indexes are there")


def _index(site: Site, index: PlatformIndex, state: IndexState) -> Finding:
    where = f"{index.name} on {index.table} is {state}"
    if not index.unique:
        return warning(f"the index {where}: jobs are slow without it", _UPGRADE)
    rows = surplus(site.session, index)
    if rows:
        return error(
            f"the unique key {where}, with {plural(rows, 'duplicate row')} in its way", f"{_UPGRADE}, which moves them"
        )
    return error(f"the unique key {where}: jobs fail without it", _UPGRADE)


def _moved(site: Site) -> Iterator[Finding]:
    rows = site.session.rows(_sql["moved"])
    for row in rows:
        yield ok(f"{plural(row['rows'], 'duplicate')} of {row['table_name']} went to mauntic_jobs.duplicates")
    if not rows:
        yield ok("no duplicates were ever moved away")


def _grants(site: Site) -> Iterator[Finding]:
    _, absent = unreadable(site.session, [ledger for ledger, _ in _LEDGERS.values()])
    if absent:
        yield not_checked(f"not there: {several(absent)}")
        return
    lacks = {purpose: lacking(site.session, grants) for purpose, (_, grants) in _LEDGERS.items()}
    meant = [purpose for purpose, (ledger, _) in _LEDGERS.items() if f"INSERT on {ledger}" not in lacks[purpose]]
    if not meant:
        every = list(dict.fromkeys(each for those in lacks.values() for each in those))
        yield error(f"the role may neither run jobs nor deliver: it lacks {several(every)}", _GRANT)
    for purpose in meant:
        if lacks[purpose]:
            yield error(f"to {purpose} the role lacks {several(lacks[purpose])}", _GRANT)
        else:
            yield ok(f"the role may {purpose}")


def _row_security(site: Site) -> Iterator[Finding]:
    hidden = [row["name"] for row in site.session.rows(_sql["row_security"], {"schemas": [*SCHEMAS, "mauntic_jobs"]})]
    if hidden:
        yield error(
            f"row-level security may hide rows of {several(hidden)}: what reads them is refused",
            "ALTER ROLE ... BYPASSRLS, or switch it off for these tables",
        )
    else:
        yield ok("row-level security hides nothing from the role")


CHECKS = (
    Check(_AREA, "platform", _platform, Service.POSTGRES),
    Check(_AREA, "migrations", _migrations, Service.POSTGRES),
    Check(
        _AREA,
        "indexes",
        _indexes,
        Service.POSTGRES,
        reads=tuple(dict.fromkeys(index.table for index in INDEXES if index.unique)),
    ),
    Check(_AREA, "duplicates", _moved, Service.POSTGRES, reads=("mauntic_jobs.duplicates",)),
    Check(_AREA, "grants", _grants, Service.POSTGRES),
    Check(_AREA, "row_security", _row_security, Service.POSTGRES),
)
