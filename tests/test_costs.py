"""Costs of a run that no machine changes: what it asks of Postgres.

A change that raises a number has to give a reason for it in the table.
"""

import pytest
from pydantic import SecretStr

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.support import Event, add_events, contact, day, organization, request, utc
from tests.wire_counter import counted

DATE = "2026-10-05"
# Statements of a run, each a round trip. Some dozen are those of any job: five for the claim, three for the transaction
# of its rows, one for the end of the run, four to look for alerts afterwards.
STATEMENTS = {
    # A bucket's count asks twice how many events there are, so that many are counted by two processes.
    # Twelve for each of two days: the day before is within its grace.
    "aggregate-hourly": 37,
    "generate-daily-reports": 26,
    "monthly-usage-summary": 24,
    "segment-trigger-eval": 17,
    "stale-execution-cleanup": 17,
}


def asked_by(settings: Settings, job: str) -> int:
    """Run a job for a day, or a month; return how many statements it has run."""
    assert settings.database_url
    window = day("2026-10-01", 31) if job == "monthly-usage-summary" else day(DATE)
    with counted(settings.database_url.get_secret_value()) as asked:
        through = settings.model_copy(update={"database_url": SecretStr(asked.url)})
        assert run(request(through, window, job)).exit_code == ExitCode.DONE
    return asked.statements


@pytest.mark.parametrize("job", STATEMENTS)
def test_a_run_asks_no_more_than_it_did_whatever_there_is_to_write(
    direct_settings: Settings, servers: Servers, job: str
) -> None:
    settings = direct_settings.model_copy(update={"redis_url": SecretStr(servers.redis_url)})
    asked = []
    with connect(settings) as session:
        for organizations in (range(1), range(1, 30)):
            events = [
                Event(organization(owner), contact(person), kind, utc(f"{DATE}T13:00"))
                for owner in organizations
                for person in range(10)
                for kind in ("email_sent", "email_opened", "email_clicked")
            ]
            add_events(session, events)
            # The second run finds everything as it is to be.
            asked += [asked_by(settings, job), asked_by(settings, job)]
    assert asked == [STATEMENTS[job]] * 4
