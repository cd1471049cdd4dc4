"""Check that the ledger's schema is that of this version, before a process takes its first message."""

from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.migrations.files import migrations
from mauntic_jobs.migrations.upgrade import known_versions
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.async_link import PostgresLink

_sql = statements("migrations")


async def check_schema(link: PostgresLink) -> None:
    """Raise ConfigurationError if migrations are pending, RefusedError if a later version has migrated the database.

    A role that may not read the record of migrations is not checked; `doctor` names what it lacks.
    """
    (may_read,) = await link.rows(_sql["may_read"], {})
    if not may_read["allowed"]:
        return
    applied = known_versions(await link.rows(_sql["applied"], {}))
    pending = [str(migration) for migration in migrations() if migration.version not in applied]
    if pending:
        raise ConfigurationError(
            f"The database lacks migrations of this version of mauntic-jobs: {', '.join(pending)}. "
            "Run `mauntic-jobs db upgrade` first."
        )
