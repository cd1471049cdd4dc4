"""The platform's tables, created where there is no platform: for development and tests."""

from importlib.resources import files

from mauntic_jobs.errors import ConflictError, LockedError, RefusedError
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session

SCHEMAS = ("analytics", "delivery", "journey", "crm", "content")

_sql = statements("migrations")


def create_platform(session: Session) -> None:
    """Create the platform's tables. Raises RefusedError, and changes nothing, where any of its schemas exists.

    Raises LockedError if another process creates them at the same time.
    """
    existing = [row["name"] for row in session.rows(_sql["existing_schemas"], {"schemas": list(SCHEMAS)})]
    if existing:
        raise RefusedError(
            f"The database already has {', '.join(existing)}: db init-platform is only for an empty development "
            "database, because the platform migrates its own tables."
        )
    try:
        with session.transaction(Limits()):
            session.execute((files("mauntic_jobs.sql") / "platform.sql").read_bytes())
    except ConflictError:
        raise LockedError("Another `db init-platform` is under way on this database.") from None
