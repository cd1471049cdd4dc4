from datetime import timedelta

import pytest

from mauntic_jobs.errors import (
    ConfigurationError,
    ContentionError,
    ExitCode,
    LockedError,
    MaunticJobsError,
    RefusedError,
    UnavailableError,
)
from mauntic_jobs.runner.backfill import run_all, split
from mauntic_jobs.runner.request import Report, Status, exit_code
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Unit, Window
from tests.support import Event, add_events, contact, day, organization, request, stored_rollups, utc

_ACME = organization(1)


def _opened(at: str) -> Event:
    return Event(_ACME, contact(1), "email_opened", utc(at))


def test_a_window_within_a_day_is_one_run_of_all_its_days() -> None:
    (only,) = split(request(Settings(), day("2026-10-05")))
    assert [str(part.start.date()) for part in only.coverage.split(Unit.DAY)] == ["2026-10-04", "2026-10-05"]


def test_a_longer_window_is_a_run_for_each_day_and_one_for_the_day_before_it() -> None:
    window = Window(utc("2026-10-05T01:00"), utc("2026-10-07T06:00"))
    assert [(str(part.window), str(part.coverage)) for part in split(request(Settings(), window))] == [
        ("2026-10-04/2026-10-05", "2026-10-04/2026-10-05"),
        ("2026-10-05T01:00Z/2026-10-06T00:00Z", "2026-10-05/2026-10-06"),
        ("2026-10-06/2026-10-07", "2026-10-06/2026-10-07"),
        ("2026-10-07T00:00Z/2026-10-07T06:00Z", "2026-10-07/2026-10-08"),
    ]


def test_a_year_is_a_run_a_day() -> None:
    parts = split(
        request(Settings(), Window(utc("2024-01-01T00:00"), utc("2025-01-01T00:00")), options={"grace": "0s"})
    )
    assert len(parts) == 366
    assert {part.coverage.end - part.coverage.start for part in parts} == {timedelta(days=1)}


def test_a_refused_day_does_not_keep_the_others_from_being_run(settings: Settings, session: Session) -> None:
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
        b" VALUES (%(org)s, '2026-10-06', 'email_opened', 9, 9)",
        {"org": _ACME},
    )
    add_events(session, [_opened(f"2026-10-0{number}T10:00") for number in (5, 6, 7)])
    reports = list(run_all(split(request(settings, day("2026-10-05", 3), options={"grace": "0s"}))))
    assert [report.status for report in reports] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    assert [values for _, values in sorted(stored_rollups(session).items())] == [(1, 1), (9, 9), (1, 1)]
    assert exit_code(reports) == ExitCode.REFUSED


def test_a_database_that_is_away_ends_the_backfill() -> None:
    nowhere = Settings(database_url="postgresql://127.0.0.1:1/x", max_attempts=1)
    reports = list(run_all(split(request(nowhere, day("2026-10-05", 30)))))
    assert [report.exit_code for report in reports] == [ExitCode.UNAVAILABLE]


def _report(error: MaunticJobsError | None, *, partial: bool = False) -> Report:
    status = Status.SKIPPED if isinstance(error, LockedError) else Status.SUCCEEDED
    return Report(job="j", window=day("2026-10-05"), status=status, error=error, partial=partial)


_DONE, _PARTIAL = _report(None), _report(None, partial=True)
_SKIPPED, _REFUSED = _report(LockedError("x")), _report(RefusedError("x"))


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([], ExitCode.DONE),
        ([_DONE, _DONE], ExitCode.DONE),
        ([_DONE, _SKIPPED], ExitCode.TRY_LATER),
        ([_SKIPPED, _PARTIAL], ExitCode.PARTIAL),
        ([_PARTIAL, _REFUSED, _SKIPPED], ExitCode.REFUSED),
        ([_REFUSED, _report(UnavailableError("x"))], ExitCode.UNAVAILABLE),
        ([_DONE, _report(ConfigurationError("x"))], ExitCode.CONFIGURATION),
        ([_SKIPPED, _report(ContentionError("x"))], ExitCode.FAILED),
    ],
)
def test_the_most_serious_end_decides_the_exit_code(reports: list[Report], code: ExitCode) -> None:
    assert exit_code(reports) == code


def test_a_skip_can_count_as_done() -> None:
    assert exit_code([_DONE, _SKIPPED], skip_ok=True) == ExitCode.DONE
    assert exit_code([_REFUSED, _SKIPPED], skip_ok=True) == ExitCode.REFUSED
