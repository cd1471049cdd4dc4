"""Alerts: open once, told once, over once, whoever notices and whatever the channels do."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from mauntic_jobs.alerts import ledger
from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.alerts.ledger import NoticeOutcome
from mauntic_jobs.alerts.notify import notify, send_due
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.alerts.receivers import Mailbox, Receiver, mail_server, receiver
from tests.support import environment, utc

NOW = utc("2026-10-05T10:00")
LATER = NOW + timedelta(minutes=1)


def recover(session: Session, settings: Settings, cause: Cause, still_open: Sequence[str], now: datetime) -> None:
    """End the alerts of a cause whose keys are not in `still_open`, and tell of it."""
    ledger.close_alerts(session, [cause], now, keep=[f"{cause}:{key}" for key in still_open])
    send_due(session, settings, now)


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


def told_by(settings: Settings, *channels: dict[str, Any], **changes: Any) -> Settings:
    return Settings(**{**settings.model_dump(), "alerts": list(channels), **changes})


def slack(to: Receiver, **more: Any) -> dict[str, Any]:
    return {"type": "slack", "url": to.url, **more}


@pytest.fixture
def inbox() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


def _texts(inbox: Receiver) -> list[str]:
    return [request.json["text"].splitlines()[0] for request in inbox.received()]


def test_an_alert_is_told_once_and_its_end_once(settings: Settings, session: Session, inbox: Receiver) -> None:
    settings = told_by(settings, slack(inbox))
    told = notify(session, settings, [failed("a")], NOW)
    assert told.told == ["[critical] a failed."]
    for minute in range(3):
        assert notify(session, settings, [failed("a")], NOW + timedelta(minutes=minute)).told == []
    assert _texts(inbox) == ["*[critical] a failed.*"]
    for minute in range(3, 6):
        recover(session, settings, Cause.JOB_FAILED, [], NOW + timedelta(minutes=minute))
    (over,) = inbox.received()
    assert over.json["text"].splitlines() == [
        "*[over] job failed:a*",
        "It was: a failed.",
        f"Open for 3m. From {socket.gethostname()}.",
    ]
    (row,) = stored(session)
    assert (row["notified_by"], row["notified_at"], row["close_notified_at"]) == (
        "slack 1", NOW, NOW + timedelta(minutes=3)
    )  # fmt: skip


def test_an_alert_that_stays_open_is_told_again_after_the_window(
    settings: Settings, session: Session, inbox: Receiver
) -> None:
    settings = told_by(settings, slack(inbox))
    notify(session, settings, [failed("a")], NOW)
    edge = NOW + timedelta(hours=4)
    send_due(session, settings, edge - timedelta(seconds=1))
    assert _texts(inbox) == ["*[critical] a failed.*"]
    send_due(session, settings, edge)
    assert _texts(inbox) == ["*[critical again] a failed.*"]


def test_what_is_only_good_to_know_is_told_once(settings: Settings, session: Session, inbox: Receiver) -> None:
    settings = told_by(settings, slack(inbox))
    notify(session, settings, [failed("a", severity=Severity.INFO)], NOW)
    assert send_due(session, settings, NOW + timedelta(days=1)).told == []
    assert _texts(inbox) == ["*[info] a failed.*"]


def test_an_alert_that_comes_back_after_its_end_is_a_new_one(
    settings: Settings, session: Session, inbox: Receiver
) -> None:
    settings = told_by(settings, slack(inbox))
    notify(session, settings, [failed("a")], NOW)
    recover(session, settings, Cause.JOB_FAILED, [], LATER)
    notify(session, settings, [failed("a")], LATER)
    assert [text.split("]")[0] for text in _texts(inbox)] == ["*[critical", "*[over", "*[critical"]


def test_nothing_is_told_of_the_end_of_what_nobody_was_told_of(
    settings: Settings, session: Session, inbox: Receiver
) -> None:
    notify(session, settings, [failed("a")], NOW)
    recover(session, settings, Cause.JOB_FAILED, [], LATER)
    assert send_due(session, told_by(settings, slack(inbox)), LATER).told == []
    assert inbox.received() == []


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("500", "answered 500"),
        ("404", "answered 404"),
        ("302", "answered 302, a redirect, which is not followed"),
        ("307", "answered 307, a redirect"),
        ("reset", "the exchange broke off"),
        ("hang", "no answer within"),
        ("drip", "no answer within"),
    ],
)
def test_the_next_channel_stands_in_for_one_that_fails(
    direct_settings: Settings, inbox: Receiver, mode: str, problem: str
) -> None:
    with receiver(mode) as ill, connect(direct_settings) as session:
        channels = [slack(ill), slack(inbox)]
        settings = told_by(direct_settings, *channels, alert_timeout=timedelta(seconds=1))
        done = notify(session, settings, [failed("a"), failed("b")], NOW)
        assert len(ill.received()) == 1
    assert (len(done.told), done.untold) == (2, {})
    assert problem in done.broken["slack 1"]
    assert len(_texts(inbox)) == 2
    with connect(direct_settings) as session:
        assert {(row["notified_by"], row["problem"]) for row in stored(session)} == {("slack 2", None)}


def test_channels_that_all_hang_take_no_longer_than_they_may(direct_settings: Settings) -> None:
    with receiver("hang") as one, receiver("drip") as other, connect(direct_settings) as session:
        channels = [slack(one), {"type": "webhook", "url": other.url, "secret": "a secret"}]
        settings = told_by(direct_settings, *channels, alert_timeout=timedelta(seconds=0.6))
        started = time.monotonic()
        done = notify(session, settings, [failed(job) for job in "abcd"], NOW)
        # What is above it is the database's.
        assert time.monotonic() - started < 5
    assert (done.told, len(done.untold)) == ([], 4)


def test_a_host_that_cannot_be_looked_up_in_time_is_left(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch, inbox: Receiver
) -> None:
    real = socket.getaddrinfo

    def slow(host: Any, *rest: Any, **more: Any) -> Any:
        if host in ("slow.example.com", b"slow.example.com"):
            inbox.released.wait(60)
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    channels = [{"type": "slack", "url": "https://slow.example.com/x"}, slack(inbox)]
    with connect(direct_settings) as session:
        settings = told_by(direct_settings, *channels, alert_timeout=timedelta(seconds=1))
        done = notify(session, settings, [failed("a")], NOW)
    assert "no answer within" in done.broken["slack 1"]
    assert len(_texts(inbox)) == 1


def test_the_longest_time_that_can_be_set_is_ten_seconds() -> None:
    assert Settings().alert_timeout == timedelta(seconds=10)
    with pytest.raises(ValueError, match="alert_timeout"):
        Settings(alert_timeout=timedelta(seconds=11))


def test_what_nobody_takes_is_kept_with_the_reason_and_tried_again_later(
    settings: Settings, session: Session, inbox: Receiver
) -> None:
    inbox.mode = "500"
    settings = told_by(settings, slack(inbox))
    done = notify(session, settings, [failed("a")], NOW)
    assert done.untold == {"[critical] a failed.": "slack 1: answered 500"}
    assert stored(session)[0]["problem"] == "slack 1: answered 500"
    inbox.mode = "ok"
    # Not at once: each time may take all the time there is.
    assert notify(session, settings, [failed("a")], LATER).told == []
    assert len(inbox.received()) == 1
    _let_claims_end(session)
    assert len(send_due(session, settings, LATER).told) == 1
    assert stored(session)[0]["problem"] is None


def _let_claims_end(session: Session) -> None:
    session.execute(b"UPDATE mauntic_jobs.alerts SET claimed_until = clock_timestamp() - interval '1 second'")


def test_a_channel_gets_only_what_is_serious_enough(settings: Settings, session: Session, inbox: Receiver) -> None:
    settings = told_by(settings, slack(inbox, min_severity="error"))
    alerts = [failed(severity.value, severity=severity) for severity in Severity]
    done = notify(session, settings, alerts, NOW)
    assert (done.told, done.untold) == (["[critical] critical failed.", "[error] error failed."], {})
    assert len(_texts(inbox)) == 2
    assert {row["problem"] for row in stored(session)} == {None}
    assert send_due(session, settings, LATER).told == []


_NOTIFIER = """
import sys
from mauntic_jobs.settings.sources import load
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.alerts import dispatch
from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.alerts.notify import notify
from datetime import datetime, UTC
import os, signal
settings, _ = load({})
alerts = [Alert(Cause.JOB_FAILED, str(n), Severity.ERROR, f"{n} failed.", "look") for n in range(10)]
if "die" in sys.argv:
    dispatch.send_all = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with connect(settings) as session:
    print("ready", flush=True)
    sys.stdin.readline()
    notify(session, settings, alerts, datetime(2026, 10, 5, 10, tzinfo=UTC))
"""


def _notifier(settings: Settings, inbox: Receiver, *arguments: str) -> subprocess.Popen[str]:
    alerts = f'[{{"type": "slack", "url": "{inbox.url}"}}]'
    process = subprocess.Popen(
        [sys.executable, "-c", _NOTIFIER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(settings, MAUNTIC_ALERTS=alerts),
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_that_notice_the_same_at_once_tell_it_once(direct_settings: Settings, inbox: Receiver) -> None:
    processes = [_notifier(direct_settings, inbox) for _ in range(3)]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert sorted(_texts(inbox)) == [f"*[error] {n} failed.*" for n in range(10)]
    with connect(direct_settings) as session:
        assert [row["seen"] for row in stored(session)] == [3] * 10


def test_what_a_process_was_killed_before_telling_is_told_by_the_next(
    direct_settings: Settings, inbox: Receiver
) -> None:
    process = _notifier(direct_settings, inbox, "die")
    process.communicate("go\n", timeout=60)
    assert process.returncode < 0
    settings = told_by(direct_settings, slack(inbox))
    with connect(direct_settings) as session:
        assert len(stored(session)) == 10
        # As long as the one that was killed might still be telling.
        assert send_due(session, settings, LATER).told == []
        _let_claims_end(session)
        assert len(send_due(session, settings, LATER).told) == 10
    assert len(_texts(inbox)) == 10


def test_an_alert_that_ends_while_it_is_being_told_has_its_end_told_too(
    direct_settings: Settings, inbox: Receiver
) -> None:
    settings = told_by(direct_settings, slack(inbox))
    with connect(settings) as session:
        notify(session, direct_settings, [failed("a")], NOW)
        (claimed,) = ledger.claim(session, NOW, settings.alert_repeat)
        recover(session, settings, Cause.JOB_FAILED, [], LATER)
        assert inbox.received() == []
        ledger.record_sent(session, NOW, [(claimed, NoticeOutcome("slack 1", None))])
        assert send_due(session, settings, LATER).told == ["[over] job failed:a"]
        assert send_due(session, settings, LATER).told == []


CANARY = "password=hunter2 jane@example.com +49 151 1234567"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Apprise's own
def test_what_goes_out_has_no_secrets_and_no_addresses(direct_settings: Settings, inbox: Receiver) -> None:
    mailbox = Mailbox()
    with mail_server(mailbox) as port, connect(direct_settings) as session:
        alert = failed("a", summary=CANARY, action=f"look {CANARY}", details={"error": CANARY})
        for channel in (
            slack(inbox),
            {"type": "webhook", "url": inbox.url, "secret": "a secret"},
            {"type": "smtp", "url": f"smtp://127.0.0.1:{port}", "from": "jobs@x.test", "to": ["a@y.test", "b@y.test"]},
            {"type": "apprise", "url": inbox.url.replace("http", "json")},
        ):
            told = told_by(direct_settings, channel)
            assert len(notify(session, told, [alert], NOW).told) == 1, channel
            session.execute(b"DELETE FROM mauntic_jobs.alerts")
    (mail,) = mailbox.mails
    assert mail.rcpt_tos == ["a@y.test", "b@y.test"]
    sent = [request.body.decode() for request in inbox.received()] + [mail.content.decode()]
    assert len(sent) == 4
    for text in sent:
        assert "***" in text or "=2A=2A=2A" in text
        assert not re.search(r"hunter2|jane|1234567", text)
