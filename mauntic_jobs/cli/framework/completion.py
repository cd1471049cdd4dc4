"""Values that the shell's completion offers for options."""

from collections.abc import Callable, Iterable

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.jobs.registry import jobs
from mauntic_jobs.runner.request import Status
from mauntic_jobs.settings.sources import load
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import connect

# More are no help at a prompt.
_MAX_ORGANIZATIONS = 50

Complete = Callable[[str], list[str]]


def _of(values: Callable[[], Iterable[str]]) -> Complete:
    return lambda incomplete: [value for value in values() if value.startswith(incomplete)]


def _organizations() -> list[str]:
    """Return organizations with a provider; none where the database cannot be asked."""
    try:
        settings, _ = load({}, None, lambda _: None)
        with connect(settings) as session:
            rows = session.rows(statements("providers")["organizations"], {"most": _MAX_ORGANIZATIONS})
    except MaunticJobsError:
        return []
    return [str(row["organization_id"]) for row in rows]


states = _of(lambda: [state.value for state in State])
channels = _of(lambda: CHANNELS)
job_names = _of(jobs)
statuses = _of(lambda: [status.value for status in Status if status is not Status.DRY_RUN])
organizations = _of(_organizations)
