"""What the tests of the warm-up counters share."""

from datetime import date
from typing import Any

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.lua import script
from mauntic_jobs.runner.request import Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Unit, Window
from mauntic_jobs.warmup.keys import dates, keys
from tests.support import organization, request, utc

ACME = organization(1)
MAIL = "mail.acme.com"
COUNTER, ACCOUNT = keys(ACME, MAIL)
YESTERDAY, TODAY, TOMORROW = date(2026, 10, 4), date(2026, 10, 5), date(2026, 10, 6)


def changed(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**settings.model_dump(), **changes})


def add_domains(session: Session, *domains: str, created: str = "2026-10-01T09:00", owner: Any = ACME) -> None:
    rows = [(owner, domain, created) for domain in domains]
    session.copy(b"COPY delivery.sending_domains (organization_id, domain, created_at) FROM STDIN", rows)


def run_job(
    settings: Settings, now: str = "2026-10-05T00:00:07", window: Window | None = None, **changes: Any
) -> Report:
    instant = utc(now)
    slot = None if window else Unit.DAY.floor(instant)
    window = window or Window.before(instant, Unit.DAY)
    return run(request(settings, window, "warmup-daily-reset", now=instant, slot=slot, **changes))


def outcomes(report: Report) -> dict[str, int]:
    assert (report.exit_code, report.error) == (ExitCode.DONE, None)
    return {name: count for name, count in report.counters.items() if count and name != "domains"}


def count(client: Any, day: date, messages: int = 1, domain: str = MAIL) -> int:
    return int(client.eval(script("warmup_count"), 2, *keys(ACME, domain), *dates(day), messages))


def reset(client: Any, day: date) -> Any:
    return client.eval(script("warmup_reset"), 2, COUNTER, ACCOUNT, *dates(day), 1)
