"""Upgrade of a database, and how far it is upgraded."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

from mauntic_jobs.errors import ConfigurationError, LockedError, RefusedError
from mauntic_jobs.job import Row
from mauntic_jobs.migrations.files import Migration, migrations
from mauntic_jobs.migrations.indexes import INDEXES, IndexState, PlatformIndex, build, states, surplus
from mauntic_jobs.migrations.partitions import partitioned
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session, connect

# The first that treats nulls as equal in a unique key.
OLDEST_SERVER = 15

# A pooler that has a connection left gives it at once.
_POOL_SECONDS = 10.0

_sql = statements("migrations")


@dataclass(frozen=True)
class DatabaseState:
    """How far a database is: migrations and indexes still to come, and rows that share a key to be."""

    applied: tuple[Migration, ...]
    pending: tuple[Migration, ...]
    indexes: dict[PlatformIndex, IndexState]
    surplus: dict[str, int] = field(default_factory=dict)
    partitioned: frozenset[str] = frozenset()

    @property
    def current(self) -> bool:
        """Whether there is nothing to do."""
        return not self.pending and all(state is IndexState.PRESENT for state in self.indexes.values())


def inspect(session: Session) -> DatabaseState:
    """Return how far the database is.

    Raises ConfigurationError if it is no database of the platform, RefusedError if its migrations are not these.
    """
    _check_server(session)
    missing = missing_tables(session)
    if missing:
        raise ConfigurationError(
            f"This is no database of the platform: {', '.join(missing)} missing. Check DATABASE_URL; "
            "for a development database, `mauntic-jobs db init-platform` creates the platform's tables."
        )
    applied = applied_versions(session)
    found = states(session)
    return DatabaseState(
        applied=tuple(migration for migration in migrations() if migration.version in applied),
        pending=tuple(migration for migration in migrations() if migration.version not in applied),
        indexes=found,
        surplus={
            index.table: surplus(session, index)
            for index, state in found.items()
            if index.unique and state is not IndexState.PRESENT
        },
        partitioned=partitioned(session, [index.table for index in INDEXES]),
    )


def missing_tables(session: Session) -> list[str]:
    """Return those of the platform's tables, as far as indexes are added to them, that the database does not have."""
    tables = list(dict.fromkeys(index.table for index in INDEXES))
    return [row["name"] for row in session.rows(_sql["missing_tables"], {"tables": tables})]


def applied_versions(session: Session) -> set[int]:
    """Return the numbers of the migrations that were applied. Raises RefusedError if they are not these."""
    if not session.row(_sql["has_record"])["present"]:
        return set()
    return known_versions(session.rows(_sql["applied"]))


def known_versions(applied: Sequence[Row]) -> set[int]:
    """Return the numbers of the migrations in these rows of the record. Raises RefusedError if they are not these."""
    known = {migration.version: migration for migration in migrations()}
    for row in applied:
        migration = known.get(row["version"])
        if migration is None:
            raise RefusedError(
                f"The database has migration {row['version']:04} {row['name']}, which this version of mauntic-jobs "
                "does not know. Use the version that applied it, or a later one."
            )
        if migration.checksum != row["checksum"]:
            raise RefusedError(
                f"Migration {migration} was applied from another text than this version of mauntic-jobs ships. "
                "Install an unchanged release, or compare the schema with it by hand."
            )
    return {row["version"] for row in applied}


def upgrade(settings: Settings, log: Callable[[str], None]) -> dict[str, int]:
    """Apply what is missing; `log` gets a sentence for each step. Returns the duplicates moved, by table.

    Each migration commits with its record. Safe to run again at any point. Raises LockedError while another upgrade is
    under way, and what `inspect` raises.
    """
    moved: Counter[str] = Counter()
    with connect(settings) as session, _alone(settings):
        _check_pool(session)
        state = inspect(session)
        for migration in state.pending:
            with session.transaction(Limits(statement_timeout=timedelta(hours=1))):
                session.execute(migration.sql.encode())
                session.execute(_sql["record"], _record(migration))
            log(f"applied {migration}")
        lacking = [index for index, found in state.indexes.items() if found is not IndexState.PRESENT]
        with session.unlimited() if lacking else nullcontext():
            for index in lacking:
                moved[index.table] += build(session, index, log)
                log(f"built {index.name} on {index.table}")
    return {table: count for table, count in moved.items() if count}


def script(state: DatabaseState) -> str:
    """Return the SQL that `upgrade` would execute, without the moving of duplicates."""
    parts = [
        f"-- {migration}\nBEGIN;\n{migration.sql.strip()}\n"
        "INSERT INTO mauntic_jobs.migrations (version, name, checksum)\n"
        f"VALUES ({migration.version}, '{migration.name}', '{migration.checksum}');\nCOMMIT;\n"
        for migration in state.pending
    ]
    for index, found in state.indexes.items():
        if found is not IndexState.PRESENT and index.table in state.partitioned:
            parts.append(
                f"-- {index.name}\n{index.only_sql};\n"
                "-- and for each partition: CREATE INDEX CONCURRENTLY, and ALTER INDEX ... ATTACH PARTITION\n"
            )
        elif found is not IndexState.PRESENT:
            drop = f"{index.drop_sql};\n" if found is IndexState.INVALID else ""
            parts.append(f"-- {index.name}\n{drop}{index.sql};\n")
    return "\n".join(parts)


def _record(migration: Migration) -> dict[str, int | str]:
    return {"version": migration.version, "name": migration.name, "checksum": migration.checksum}


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold a lock in a transaction of its own: an index cannot be built concurrently inside one."""
    with connect(settings) as session, session.transaction(Limits(idle_timeout=timedelta(days=1))):
        if not session.row(_sql["lock"])["locked"]:
            raise LockedError("Another `db upgrade` is under way on this database. Try again when it has ended.")
        yield


def _check_pool(session: Session) -> None:
    """Raise ConfigurationError if there is no second connection beside that of the lock."""
    if not session.answers_within(_POOL_SECONDS):
        raise ConfigurationError(
            "The pooler at DATABASE_URL gives this database one connection at a time, and `db upgrade` needs two. "
            "Set DATABASE_URL to the database itself, without the pooler, for this command."
        )


def _check_server(session: Session) -> None:
    version = session.server_version // 10_000
    if version < OLDEST_SERVER:
        raise ConfigurationError(f"Postgres {version} is too old: mauntic-jobs needs {OLDEST_SERVER} or later.")
