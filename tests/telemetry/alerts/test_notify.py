"""Alerts in the ledger: open once, seen again, over once."""

from datetime import timedelta

from mauntic_jobs.config import Settings
from mauntic_jobs.job import Row
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.telemetry.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.telemetry.alerts.notify import notify, recover
from tests.support import utc

NOW = utc("2026-10-05T10:00")
LATER = NOW + timedelta(minutes=1)


def failed(job: str, **changes: object) -> Alert:
    values = {"severity": Severity.CRITICAL, "summary": f"{job} failed.", "action": "mauntic-jobs runs show 1"}
    return Alert(Cause.JOB_FAILED, job, **{**values, **changes})  # type: ignore[arg-type]


def stored(session: Session) -> list[Row]:
    return session.rows(b"SELECT * FROM mauntic_jobs.alerts ORDER BY id")


def test_an_alert_is_open_once_however_often_it_is_noticed(settings: Settings, session: Session) -> None:
    notify(session, settings, [failed("a"), failed("b"), failed("a", summary="a failed again.")], NOW)
    notify(session, settings, [failed("a", summary="a failed once more.")], LATER)
    assert [(row["fingerprint"], row["seen"], row["opened_at"], row["seen_at"]) for row in stored(session)] == [
        ("job failed:a", 2, NOW, LATER),
        ("job failed:b", 1, NOW, NOW),
    ]
    assert stored(session)[0]["summary"] == "a failed once more."


def test_what_is_no_longer_so_is_over(settings: Settings, session: Session) -> None:
    notify(session, settings, [failed("a"), failed("b")], NOW)
    recover(session, settings, Cause.JOB_PARTIAL, [], LATER)
    recover(session, settings, Cause.JOB_FAILED, ["b"], LATER)
    assert [(row["fingerprint"], row["closed_at"]) for row in stored(session)] == [
        ("job failed:a", LATER),
        ("job failed:b", None),
    ]
    notify(session, settings, [failed("a")], LATER)
    assert [row["closed_at"] for row in stored(session)] == [LATER, None, None]


def test_an_older_look_does_not_end_what_was_seen_since(settings: Settings, session: Session) -> None:
    notify(session, settings, [failed("a")], LATER)
    recover(session, settings, Cause.JOB_FAILED, [], NOW)
    assert [row["closed_at"] for row in stored(session)] == [None]


def test_nothing_secret_and_no_address_is_kept(settings: Settings, session: Session) -> None:
    alert = failed("a", summary="to jane@example.com: password=hunter2", details={"error": "+49 151 1234567", "n": 3})
    notify(session, settings, [alert], NOW)
    (row,) = stored(session)
    assert row["summary"] == "to <address>: password=***"
    assert row["details"] == {"error": "<phone>", "n": 3}
