"""What each type of channel sends, and what it makes of servers that do not take it."""

import base64
import hashlib
import hmac
import json
import sys
from dataclasses import replace
from email import message_from_bytes, policy
from typing import Any

import pytest

from mauntic_jobs.alerts.channels import slack, webhook
from mauntic_jobs.alerts.dispatch import attempt, channels_of
from mauntic_jobs.alerts.notice import Event, Notice
from mauntic_jobs.settings.alert_channels import Severity
from mauntic_jobs.settings.settings import Settings
from tests.alerts.receivers import Mailbox, mail_server, receiver
from tests.support import utc

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - that of the standard's example
NOTICE = Notice(
    key="alert-7-opened",
    event=Event.OPENED,
    fingerprint="job failed:a",
    cause="job failed",
    severity=Severity.CRITICAL,
    summary="a failed:\r\nBcc: <b> & more",
    action="mauntic-jobs runs show 7",
    details={"run": 7, "host": "h1"},
    opened_at=utc("2026-10-05T10:00"),
    closed_at=None,
    seen=2,
    source="h1",
    at=utc("2026-10-05T10:01"),
)


def _attempt(seconds: float = 10, **channel: Any) -> str | None:
    (made,) = channels_of(Settings(alerts=[channel]))
    return attempt(made, NOTICE, seconds)


def test_a_webhook_gets_the_documented_schema() -> None:
    with receiver() as inbox:
        assert _attempt(type="webhook", url=inbox.url, secret=SECRET) is None
        (request,) = inbox.received()
    assert request.json == {
        "schema": "mauntic-jobs/alert/1",
        "id": "alert-7-opened",
        "event": "opened",
        "fingerprint": "job failed:a",
        "cause": "job failed",
        "severity": "critical",
        "summary": "a failed:\r\nBcc: <b> & more",
        "action": "mauntic-jobs runs show 7",
        "details": {"run": 7, "host": "h1"},
        "seen": 2,
        "opened_at": "2026-10-05T10:00:00+00:00",
        "closed_at": None,
        "source": "h1",
    }


def test_a_webhook_can_be_verified_as_the_documents_say() -> None:
    with receiver() as inbox:
        assert _attempt(type="webhook", url=inbox.url, secret=SECRET) is None
        (request,) = inbox.received()
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    mac = hmac.new(base64.b64decode(SECRET[6:]), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("alert-7-opened", "1791194460")


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    signed = webhook.signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_slack_cannot_take_a_text_for_markup() -> None:
    assert json.loads(slack.payload(NOTICE))["text"].splitlines() == [
        "*[critical] a failed: Bcc: &lt;b&gt; &amp; more*",
        "Next: `mauntic-jobs runs show 7`",
        "Open since 2026-10-05 10:00 UTC. From h1.",
    ]
    over = replace(NOTICE, event=Event.CLOSED, closed_at=utc("2026-10-05T11:02"))
    assert "Open for 1h2m." in json.loads(slack.payload(over))["text"]


def test_a_mail_has_one_subject_and_everything_in_it() -> None:
    mailbox = Mailbox()
    with mail_server(mailbox) as port:
        channel: dict[str, Any] = {"url": f"smtp://127.0.0.1:{port}", "from": "Jobs <jobs@x.test>", "to": ["a@y.test"]}
        assert _attempt(type="smtp", **channel) is None
    (mail,) = mailbox.mails
    message = message_from_bytes(mail.content, policy=policy.default)
    assert message["Subject"] == "[critical] a failed: Bcc: <b> & more"
    assert message["Bcc"] is None
    assert message["Date"] == "Mon, 05 Oct 2026 10:01:00 +0000"
    assert "Next: mauntic-jobs runs show 7" in message.get_content()
    assert "run: 7" in message.get_content()


def test_a_mail_server_that_does_not_take_it_is_named_by_its_answer() -> None:
    mailbox = Mailbox("554 5.7.1 hunter2 no")
    with mail_server(mailbox) as port:
        channel: dict[str, Any] = {"from": "jobs@x.test", "to": ["a@y.test"]}
        url = f"smtp://127.0.0.1:{port}"
        assert _attempt(type="smtp", url=url, **channel) == "the mail server answered 554"
        login = url.replace("//", "//me:hunter2@")
        assert "offers no encryption" in str(_attempt(type="smtp", url=login, **channel))
    assert "cannot be reached" in str(_attempt(type="smtp", url=url, **channel))
    with receiver("hang") as silent:
        url = f"smtp://127.0.0.1:{silent.port}"
        assert _attempt(0.3, type="smtp", url=url, **channel) in (
            "no answer within 0.3 s",
            "the mail server cannot be reached: timed out",
            "the mail server broke off (SMTPServerDisconnected)",  # what smtplib makes of a greeting that is late
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Apprise's own
def test_apprise_says_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _attempt(type="apprise", url="nonsense://hunter2") == "Apprise cannot read the address"
    with receiver("500") as inbox:
        assert _attempt(type="apprise", url=f"json://127.0.0.1:{inbox.port}/hunter2") == "Apprise could not deliver"
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert "pip install mauntic-jobs[apprise]" in str(_attempt(type="apprise", url="json://127.0.0.1"))


def test_no_connection_is_told_without_the_address() -> None:
    with receiver() as gone:
        url = gone.url.replace("/in", "/hunter2")
    channels: list[dict[str, Any]] = [{"type": "slack"}, {"type": "webhook", "secret": SECRET}]
    for channel in channels:
        problem = str(_attempt(url=url, **channel))
        assert "cannot connect" in problem
        assert "hunter2" not in problem


def test_a_login_in_the_address_is_sent_as_one_and_other_characters_as_they_are_meant() -> None:
    with receiver() as inbox:
        url = inbox.url.replace("//", "//me:pass%2Fw%C3%B6rd@") + "/caf\u00e9?a=b c&d=%20"
        assert _attempt(type="slack", url=url) is None
        (request,) = inbox.received()
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == "me:pass/w\u00f6rd".encode()
    assert request.path == "/in/caf%C3%A9?a=b%20c&d=%20"
    assert request.headers["user-agent"].startswith("mauntic-jobs/")


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert _attempt(type="slack", url="http://hooks.test/services/T0") is None
        (request,) = proxy.received()
    assert request.path == "http://hooks.test/services/T0"


def test_a_server_without_tls_gets_no_message() -> None:
    with receiver() as inbox:
        problem = _attempt(type="slack", url=f"https://127.0.0.1:{inbox.port}/x")
        assert "cannot connect" in str(problem)
        assert inbox.received() == []
