"""The indexes on the platform's tables: built without blocking writers, duplicates moved out of the way first."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mauntic_jobs.errors import ConflictError, JobFailedError
from mauntic_jobs.migrations.partitions import build_on_partitions, partitioned
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session

# A writer may add a duplicate between the move and the end of the build.
_BUILD_ATTEMPTS = 5
_MOVE_TIMEOUT = timedelta(minutes=30)

_sql = statements("platform_indexes")
_catalog = statements("migrations")


class IndexState(StrEnum):
    """Whether an index is there. An invalid one was left by a build that did not end."""

    PRESENT = "present"
    MISSING = "missing"
    INVALID = "invalid"


@dataclass(frozen=True)
class PlatformIndex:
    """An index on a table of the platform; `statement` is its name in platform_indexes.sql."""

    table: str
    statement: str
    unique: bool = True

    @property
    def name(self) -> str:
        """The name of the index in the database."""
        return f"mauntic_jobs_{self.statement}"

    @property
    def sql(self) -> str:
        """The statement that builds it."""
        return _sql[self.statement].decode()

    @property
    def only_sql(self) -> str:
        """The statement that makes it on a partitioned table, without its partitions: they get theirs one by one."""
        return self.sql.replace("INDEX CONCURRENTLY", "INDEX").replace(f"ON {self.table}", f"ON ONLY {self.table}")

    @property
    def drop_sql(self) -> str:
        """The statement that drops what a build that did not end has left."""
        return _sql[f"{self.statement}_drop"].decode()


INDEXES = (
    PlatformIndex("analytics.contact_activity", "contact_activity_created_at", unique=False),
    PlatformIndex("analytics.event_aggregates", "event_aggregates_key"),
    PlatformIndex("analytics.campaign_daily_stats", "campaign_daily_stats_key"),
    PlatformIndex("crm.contacts", "contacts_by_organization", unique=False),
    PlatformIndex("crm.segment_contacts", "segment_contacts_by_segment", unique=False),
    PlatformIndex("journey.journey_executions", "journey_executions_by_contact", unique=False),
    PlatformIndex("journey.step_executions", "step_executions_by_execution", unique=False),
    PlatformIndex("journey.journey_executions", "active_executions_by_start", unique=False),
    PlatformIndex("journey.journey_executions", "active_execution_key"),
    PlatformIndex("delivery.suppressions", "suppressions_by_address", unique=False),
    PlatformIndex("delivery.delivery_events", "delivery_events_by_contact", unique=False),
    PlatformIndex("delivery.delivery_events", "delivery_events_of_node", unique=False),
    PlatformIndex("delivery.delivery_events", "delivery_events_against_senders", unique=False),
    PlatformIndex("delivery.provider_configs", "providers_by_channel", unique=False),
    PlatformIndex("delivery.sending_domains", "domains_by_name", unique=False),
    PlatformIndex("delivery.delivery_jobs", "open_campaigns", unique=False),
    PlatformIndex("crm.contact_companies", "companies_by_contact", unique=False),
    PlatformIndex("crm.contacts", "contacts_by_email", unique=False),
    PlatformIndex("crm.contacts", "contacts_by_phone", unique=False),
)


def states(session: Session) -> dict[PlatformIndex, IndexState]:
    """Return how each index stands in the database."""
    wanted = {"names": [index.name for index in INDEXES], "tables": [index.table for index in INDEXES]}
    rows = session.rows(_catalog["indexes"], wanted)
    valid = {row["name"]: row["valid"] for row in rows}
    found = {True: IndexState.PRESENT, False: IndexState.INVALID, None: IndexState.MISSING}
    return {index: found[valid.get(index.name)] for index in INDEXES}


def surplus(session: Session, index: PlatformIndex) -> int:
    """Return how many rows stand in the way of a unique index."""
    return int(session.row(_sql[f"{index.statement}_surplus"])["surplus"]) if index.unique else 0


def build(session: Session, index: PlatformIndex, log: Callable[[str], None]) -> int:
    """Build an index that is missing or invalid, and return how many duplicates were moved.

    Raises JobFailedError if writers kept adding duplicates while it was built.
    """
    moved, in_partitions = 0, bool(partitioned(session, [index.table]))
    for _ in range(_BUILD_ATTEMPTS):
        if not in_partitions:
            session.execute_alone(index.drop_sql.encode())
        if index.unique:
            with session.transaction(Limits(statement_timeout=_MOVE_TIMEOUT)):
                moved += session.execute(_sql[f"{index.statement}_move"])
        try:
            _construct(session, index, log, in_partitions=in_partitions)
        except ConflictError:
            log(f"{index.table}: new duplicates appeared while {index.name} was built; trying again")
        else:
            return moved
    if not in_partitions:
        session.execute_alone(index.drop_sql.encode())
    raise JobFailedError(
        f"{index.table} gets new duplicates faster than {index.name} can be built. "
        "Stop the jobs that mauntic-jobs replaces, then run `mauntic-jobs db upgrade` again."
    )


def _construct(session: Session, index: PlatformIndex, log: Callable[[str], None], *, in_partitions: bool) -> None:
    if not in_partitions:
        session.execute_alone(index.sql.encode())
        return
    if states(session)[index] is IndexState.MISSING:
        session.execute(index.only_sql.encode())
    build_on_partitions(session, index.table, index.name, log)
