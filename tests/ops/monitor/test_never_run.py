"""Jobs that no clock has ever looked at."""

from datetime import timedelta

from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.monitor.check import check
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from tests.scheduler.ticking import look
from tests.support import utc


def test_a_job_that_never_ran_is_not_well(settings: Settings, session: Session) -> None:
    hourly = JOBS["aggregate-hourly"]
    installed = utc("2026-10-05T01:30")
    session.execute(b"UPDATE mauntic_jobs.migrations SET applied_at = %(at)s", {"at": installed})
    setting_up = utc("2026-10-06T02:00")
    assert check(Installation(settings, setting_up - timedelta(microseconds=1), [hourly], session=session)) == []
    (alert,) = check(Installation(settings, setting_up, [hourly], session=session))
    assert (alert.key, "has never been run" in alert.summary) == (hourly.name, True)
    look(settings, setting_up, hourly)
    assert check(Installation(settings, setting_up + timedelta(minutes=1), [hourly], session=session)) == []
