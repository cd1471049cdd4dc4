"""Values that the shell's completion offers for options; what they are read from is imported at a prompt only."""

from collections.abc import Callable, Iterable

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.errors import MaunticJobsError

# More are no help at a prompt.
_MAX_ORGANIZATIONS = 50

Complete = Callable[[str], list[str]]


def _of(values: Callable[[], Iterable[str]]) -> Complete:
    return lambda incomplete: [value for value in values() if value.startswith(incomplete)]


def _organizations() -> list[str]:
    """Return organizations with a provider; none where the database cannot be asked."""
    from mauntic_jobs.settings.sources import load
    from mauntic_jobs.sql import statements
    from mauntic_jobs.stores.postgres.session import connect

    try:
        settings, _ = load({}, None, lambda _: None)
        with connect(settings) as session:
            rows = session.rows(statements("providers")["organizations"], {"most": _MAX_ORGANIZATIONS})
    except MaunticJobsError:
        return []
    return [str(row["organization_id"]) for row in rows]


def _states() -> list[str]:
    from mauntic_jobs.delivery.ledger.records import State

    return [state.value for state in State]


def _job_names() -> Iterable[str]:
    from mauntic_jobs.jobs.registry import jobs

    return jobs()


def _statuses() -> list[str]:
    from mauntic_jobs.runner.request import Status

    return [status.value for status in Status if status is not Status.DRY_RUN]


states = _of(_states)
channels = _of(lambda: CHANNELS)
job_names = _of(_job_names)
statuses = _of(_statuses)
organizations = _of(_organizations)
