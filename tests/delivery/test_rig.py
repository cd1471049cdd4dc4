"""The sink and the proxy misbehave as they say: what the delivery's tests conclude from them stands on this."""

import re
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.delivery import sink as sink_program
from tests.delivery.proxy import Proxy, running_proxy
from tests.delivery.sink import (
    SCRIPTS,
    Sink,
    certificate,
    read_journal,
    running_sink,
    server_tls,
)
from tests.support import wait_until

_CONTENT = b"Message-ID: <1@here.example>\r\nSubject: x\r\n\r\n.\r\n..two\r\nK\xc3\xb6ln\r\n"
_LONG = b"Message-ID: <2@here.example>\r\n\r\n" + b"x" * 70 + b"\r\n" * 1000
_LOGIN = ("user", "pass")
_SOON = 0.3
_GONE = (smtplib.SMTPServerDisconnected, ConnectionError)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


@pytest.fixture
def proxy(sink: Sink) -> Iterator[Proxy]:
    with running_proxy(sink.host, sink.port) as running:
        yield running


@contextmanager
def _client(port: int, timeout: float = 10) -> Iterator[smtplib.SMTP]:
    client = smtplib.SMTP("127.0.0.1", port, timeout=timeout)
    try:
        yield client
    finally:
        client.close()


def _send(port: int, *recipients: str, content: bytes = _CONTENT, timeout: float = 10) -> tuple[int, bytes]:
    """Send by hand, each recipient of whom has to be accepted; return the last reply."""
    with _client(port, timeout) as client:
        client.ehlo("here.example")
        assert client.mail("from@here.example")[0] == 250
        for recipient in recipients:
            code, text = client.rcpt(recipient)
            if code != 250:
                return code, text
        return client.data(content)


@contextmanager
def _raw(port: int) -> Iterator[socket.socket]:
    """Connect without a client, past the greeting and EHLO."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        assert _replies(raw, 1) == ["220"]
        raw.sendall(b"EHLO here.example\r\n")
        assert _replies(raw, 1) == ["250"]
        yield raw


def _replies(raw: socket.socket, number: int) -> list[str]:
    """Read so many replies, or until the end of the connection; return their codes."""
    text = b""
    codes: list[str] = []
    while len(codes) < number and (chunk := raw.recv(4096)):
        text += chunk
        codes = re.findall(r"^(\d{3}) .*\r\n", text.decode(), re.MULTILINE)
    return codes


def test_an_accepted_message_is_in_the_journal_as_it_was_sent(sink: Sink) -> None:
    before = datetime.now(UTC)
    assert _send(sink.port, "ann@there.example", "bo@there.example")[0] == 250
    [message] = sink.messages()
    assert message.message_id == "<1@here.example>"
    assert message.mail_from == "from@here.example"
    assert message.recipients == ("ann@there.example", "bo@there.example")
    assert message.content == _CONTENT
    assert before <= message.at <= datetime.now(UTC)


def test_one_connection_takes_many_messages(sink: Sink) -> None:
    with _client(sink.port) as client:
        for number in range(3):
            client.sendmail("from@here.example", ["ann@there.example"], f"Message-ID: <{number}>\n\nx\n")
    assert [message.message_id for message in sink.messages()] == ["<0>", "<1>", "<2>"]


@pytest.mark.parametrize("fsync", [False, True])
def test_a_message_is_in_the_journal_before_it_is_answered_for(tmp_path: Path, fsync: bool) -> None:
    with running_sink(tmp_path, fsync=fsync) as sink, ThreadPoolExecutor() as pool:
        sink.behaviour.slow_seconds = 1
        start = time.monotonic()
        reply = pool.submit(_send, sink.port, "slow@there.example")
        wait_until(sink.messages, "a message in the journal")
        assert not reply.done()
        assert reply.result()[0] == 250
        assert time.monotonic() - start >= 1


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        ("reject-550", (550, b"5.1.1 no such user")),
        ("policy-550", (550, b"5.7.1 refused by policy")),
        ("relay-554", (554, b"5.7.1 <ann@example.com>: Relay access denied")),
        ("sender-550", (550, b"5.1.0 <news@acme.test>: Sender address rejected: Domain not found")),
        ("full-552", (552, b"5.2.2 mailbox full")),
        ("data-unverified-554", (554, b"Message rejected: Email address is not verified")),
        ("defer-451", (451, b"4.3.0 try again later")),
        ("data-421", (421, b"4.3.2 shutting down")),
        ("data-451", (451, b"4.3.0 not now")),
        ("data-554", (554, b"5.6.0 content refused")),
        ("shut-421", (421, b"4.3.2 shutting down")),
    ],
)
@pytest.mark.parametrize("local", ["{}", "{}+7", "ann"])
def test_a_scripted_refusal_is_not_in_the_journal(
    sink: Sink, script: str, reply: tuple[int, bytes], local: str
) -> None:
    sink.behaviour.recipients["ann"] = script
    assert _send(sink.port, f"{local.format(script)}@there.example") == reply
    assert sink.messages() == []
    assert _send(sink.port, "bo@there.example")[0] == 250


@pytest.mark.parametrize(
    ("script", "journaled"), [("drop-rcpt", 0), ("drop-data", 0), ("drop-after-dot", 1), ("drop-after-dot-once", 1)]
)
@pytest.mark.parametrize("content", [_CONTENT, _LONG, b"x\r\n"])
def test_a_connection_is_dropped_without_a_reply(sink: Sink, script: str, journaled: int, content: bytes) -> None:
    with pytest.raises(_GONE):
        _send(sink.port, f"{script}@there.example", content=content)
    assert [message.content for message in sink.messages()] == [content] * journaled


def test_content_is_dropped_before_its_end(sink: Sink) -> None:
    with _raw(sink.port) as raw:
        raw.sendall(b"MAIL FROM:<>\r\nRCPT TO:<drop-data@there.example>\r\nDATA\r\n")
        assert _replies(raw, 3) == ["250", "250", "354"]
        raw.sendall(b"x" * 99)
        raw.settimeout(_SOON)
        with pytest.raises(TimeoutError):
            raw.recv(1)
        raw.sendall(b"x")
        assert raw.recv(1) == b""


def test_421_closes_the_connection(sink: Sink) -> None:
    with _raw(sink.port) as raw:
        raw.sendall(b"MAIL FROM:<>\r\nRCPT TO:<shut-421@there.example>\r\nDATA\r\n")
        assert _replies(raw, 9) == ["250", "421"]


def test_a_frozen_message_is_in_the_journal_and_never_answered_for(sink: Sink) -> None:
    with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
        _send(sink.port, "freeze@there.example", timeout=_SOON)
    assert len(sink.messages()) == 1


def test_some_faults_are_of_the_first_time_for_each_address(sink: Sink) -> None:
    for address in ("drop-after-dot-once@there.example", "drop-after-dot-once+2@there.example"):
        with pytest.raises(_GONE):
            _send(sink.port, address)
        assert _send(sink.port, address)[0] == 250
    for address in ("drop-rcpt-once@there.example", "drop-rcpt-once+2@there.example"):
        with pytest.raises(_GONE):
            _send(sink.port, address)
        assert _send(sink.port, address)[0] == 250
    for address in ("defer-once-451@there.example", "defer-once-451+2@there.example"):
        assert [_send(sink.port, address)[0] for _ in range(3)] == [451, 250, 250]
    assert len(sink.messages()) == 10


def test_every_script_is_tested_here() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [script for script in SCRIPTS if f'"{script}"' not in text and f"{script}@" not in text] == []


def test_one_refused_recipient_leaves_the_others(sink: Sink) -> None:
    with _client(sink.port) as client:
        refused = client.sendmail("from@here.example", ["reject-550@a.example", "ann@a.example"], _CONTENT)
    assert list(refused) == ["reject-550@a.example"]
    assert [message.recipients for message in sink.messages()] == [("ann@a.example",)]


@pytest.mark.parametrize("greeting", ["421 busy", "554 not you"])
def test_the_greeting_may_refuse(sink: Sink, greeting: str) -> None:
    sink.behaviour.greeting = greeting
    with pytest.raises(smtplib.SMTPConnectError, match=greeting[:3]):
        smtplib.SMTP(sink.host, sink.port, timeout=10)
    with socket.create_connection((sink.host, sink.port), timeout=10) as raw:
        raw.sendall(b"EHLO here.example\r\nQUIT\r\n")
        assert _replies(raw, 9) == {"421": ["421"], "554": ["554", "503", "221"]}[greeting[:3]]
    sink.behaviour.greeting = "220 hello"
    assert _send(sink.port, "ann@there.example")[0] == 250


@pytest.mark.parametrize("reply", ["451 4.3.0 later", "550 5.7.1 no", "421 4.3.2 bye"])
def test_mail_may_be_refused(sink: Sink, reply: str) -> None:
    sink.behaviour.mail_reply = reply
    with _client(sink.port) as client:
        client.ehlo()
        assert client.mail("from@here.example") == (int(reply[:3]), reply[4:].encode())
    sink.behaviour.mail_reply = None
    assert _send(sink.port, "ann@there.example")[0] == 250


@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_mail_is_taken_after_the_right_login(tmp_path: Path, mechanism: str) -> None:
    with running_sink(tmp_path, login=_LOGIN) as sink, _client(sink.port) as client:
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        assert client.mail("from@here.example")[0] == 530
        client.user, client.password = (_LOGIN[0], "wrong")
        method = getattr(client, f"auth_{mechanism}")
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            client.auth(mechanism, method)
        sink.behaviour.auth_reply = "454 4.7.0 later"
        client.password = _LOGIN[1]
        with pytest.raises(smtplib.SMTPAuthenticationError, match="454"):
            client.auth(mechanism, method)
        sink.behaviour.auth_reply = None
        assert client.auth(mechanism, method)[0] == 235
        assert client.sendmail("from@here.example", ["ann@there.example"], _CONTENT) == {}


def test_tls_is_offered_and_logins_only_in_it(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    options = {"tls": server_tls(pem), "login": _LOGIN}
    with running_sink(tmp_path, **options) as sink, _client(sink.port) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        client.starttls(context=ssl.create_default_context(cafile=str(pem)))
        client.ehlo()
        assert not client.has_extn("starttls")
        client.login(*_LOGIN)
        assert client.sendmail("from@here.example", ["ann@there.example"], _LONG * 100) == {}
        assert client.quit()[0] == 221
        assert [message.content for message in sink.messages()] == [_LONG * 100]


def test_a_client_that_trusts_no_one_breaks_off_and_the_next_is_served(tmp_path: Path) -> None:
    with running_sink(tmp_path, tls=server_tls(certificate(tmp_path))) as sink:
        with _client(sink.port) as client, pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(context=ssl.create_default_context())
        assert _send(sink.port, "ann@there.example")[0] == 250


@pytest.mark.parametrize(
    ("options", "announced"),
    [
        ({}, {"pipelining", "8bitmime"}),
        ({"pipelining": False}, {"8bitmime"}),
        ({"eight_bit_mime": False}, {"pipelining"}),
        ({"smtputf8": True}, {"pipelining", "8bitmime", "smtputf8"}),
    ],
)
def test_ehlo_announces_what_there_is(tmp_path: Path, options: dict[str, bool], announced: set[str]) -> None:
    with running_sink(tmp_path, **options) as sink, _client(sink.port) as client:
        client.ehlo()
        assert set(client.esmtp_features) - {"size", "enhancedstatuscodes"} == announced
        assert client.esmtp_features["size"] == "50000000"


def test_a_pipelined_group_is_answered_in_order(sink: Sink) -> None:
    group = (
        b"MAIL FROM:<from@here.example> BODY=8BITMIME SIZE=100\r\nRCPT TO:<reject-550@a.example>\r\n"
        b"RCPT TO:<ann@a.example>\r\nDATA\r\n"
    )
    with _raw(sink.port) as raw:
        raw.sendall(group)
        assert _replies(raw, 4) == ["250", "550", "250", "354"]
        raw.sendall(b"x\n.\nx\r\n..\r\n.\r\n" + group.replace(b"ann", b"defer-451"))
        assert _replies(raw, 5) == ["250", "250", "550", "451", "503"]
    assert [message.content for message in sink.messages()] == [b"x\n.\nx\r\n.\r\n"]


@pytest.mark.parametrize(
    ("options", "commands", "replies"),
    [
        ({"pipelining": False}, b"NOOP\r\nNOOP\r\n", ["421"]),
        ({"eight_bit_mime": False}, b"MAIL FROM:<a@b.example> BODY=8BITMIME\r\n", ["555"]),
        ({}, b"MAIL FROM:<a@b.example> SMTPUTF8\r\n", ["555"]),
        ({}, "MAIL FROM:<ä@b.example>\r\n".encode(), ["553"]),
        ({"smtputf8": True}, "MAIL FROM:<ä@b.example>\r\n".encode(), ["553"]),
        ({"smtputf8": True}, "MAIL FROM:<ä@b.example> SMTPUTF8\r\nRCPT TO:<ö@b>\r\n".encode(), ["250", "250"]),
        ({"size": 10}, b"MAIL FROM:<a@b.example> SIZE=11\r\n", ["552"]),
        ({}, b"RCPT TO:<a@b.example>\r\nDATA\r\nMAIL TO\r\nRSET\r\nHELP\r\n", ["503", "503", "501", "250", "500"]),
        ({}, b"AUTH PLAIN AA==\r\nSTARTTLS\r\n", ["503", "503"]),
    ],
)
def test_what_was_not_announced_is_refused(
    tmp_path: Path, options: dict[str, bool], commands: bytes, replies: list[str]
) -> None:
    with running_sink(tmp_path, **options) as sink, _raw(sink.port) as raw:
        raw.sendall(commands)
        assert _replies(raw, len(replies)) == replies


@pytest.mark.parametrize(("options", "code"), [({"eight_bit_mime": False}, 554), ({"size": 10}, 552)])
def test_content_beyond_what_was_announced_is_refused(tmp_path: Path, options: dict[str, bool], code: int) -> None:
    with running_sink(tmp_path, **options) as sink:
        assert _send(sink.port, "ann@there.example")[0] == code
        assert sink.messages() == []


def test_a_sink_that_is_killed_goes_on_from_its_journal(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    for number in range(2):
        arguments = ["--port", "0", "--journal", str(journal), "--no-pipelining", "--no-8bitmime", "--smtputf8"]
        program = [sys.executable, sink_program.__file__, *arguments]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with _client(port) as client:
                client.ehlo()
                assert set(client.esmtp_features) == {"smtputf8", "size", "enhancedstatuscodes"}
            assert _send(port, "ann@there.example", content=b"Message-ID: <%d>\r\n\r\n" % number)[0] == 250
            process.kill()
        with journal.open("ab") as file:
            file.write(b'{"message_id": "<torn')
        assert [message.message_id for message in read_journal(journal)] == ["<0>", "<1>"][: number + 1]


def test_a_sink_leaves_in_spite_of_those_who_wait(tmp_path: Path) -> None:
    with running_sink(tmp_path) as sink:
        port = sink.port
        waiting = socket.create_connection((sink.host, port))
        assert waiting.recv(100).startswith(b"220")
    with waiting:
        assert waiting.recv(100) == b""
    with running_sink(tmp_path, port=port):
        assert _send(port, "ann@there.example")[0] == 250


@pytest.mark.slow
def test_a_proxy_passes_all_on(sink: Sink, proxy: Proxy) -> None:
    assert _send(proxy.port, "ann@there.example", content=_LONG * 1000)[0] == 250
    assert [message.content for message in sink.messages()] == [_LONG * 1000]
    assert proxy.accepted == 1
    wait_until(lambda: proxy.connections == 0, "the end of the connection")
    with _client(proxy.port), _client(proxy.port):
        assert proxy.connections == 2
    with pytest.raises(_GONE):
        _send(proxy.port, "drop-rcpt@there.example")


def test_a_proxy_delays_both_directions(proxy: Proxy) -> None:
    with _client(proxy.port) as client:
        proxy.delay(0.2)
        start = time.monotonic()
        client.noop()
        assert 0.4 <= time.monotonic() - start < 5
        proxy.delay(0)
        start = time.monotonic()
        client.noop()
        assert time.monotonic() - start < 0.2


def _keep(_: Proxy) -> None:
    pass


@pytest.mark.parametrize("state", [_keep, Proxy.freeze, Proxy.drop_replies])
def test_a_proxy_resets_connections_and_takes_new_ones(proxy: Proxy, state: Callable[[Proxy], None]) -> None:
    with _raw(proxy.port) as first, _raw(proxy.port) as second:
        state(proxy)
        assert proxy.connections == 2
        proxy.reset_all()
        assert proxy.connections == 0
        for raw in (first, second):
            with pytest.raises(ConnectionResetError):
                raw.recv(1)
    proxy.thaw()
    proxy.pass_replies()
    assert _send(proxy.port, "ann@there.example")[0] == 250


def test_a_frozen_proxy_holds_bytes_back_and_loses_none(sink: Sink, proxy: Proxy) -> None:
    with _raw(proxy.port) as raw:
        raw.sendall(b"MAIL FROM:<>\r\nRCPT TO:<ann@a.example>\r\nDATA\r\n")
        assert _replies(raw, 3) == ["250", "250", "354"]
        proxy.freeze()
        raw.sendall(b"x\r\n.\r\n")
        raw.settimeout(_SOON)
        with pytest.raises(TimeoutError):
            raw.recv(1)
        assert sink.messages() == []
        assert proxy.connections == 1
        proxy.thaw()
        raw.settimeout(10)
        assert _replies(raw, 1) == ["250"]
        assert len(sink.messages()) == 1


@pytest.mark.parametrize("recipient", ["ann@a.example", "drop-after-dot@a.example"])
def test_a_proxy_loses_replies_while_the_server_hears_all(sink: Sink, proxy: Proxy, recipient: str) -> None:
    with _raw(proxy.port) as raw:
        proxy.drop_replies()
        raw.sendall(f"MAIL FROM:<>\r\nRCPT TO:<{recipient}>\r\nDATA\r\nx\r\n.\r\n".encode())
        wait_until(sink.messages, "a message in the journal")
        raw.settimeout(_SOON)
        with pytest.raises(TimeoutError):
            raw.recv(1)
        proxy.pass_replies()
        raw.settimeout(10)
        with suppress(ConnectionError):  # the server has closed, and so does the proxy
            raw.sendall(b"NOOP\r\nQUIT\r\n")
            assert _replies(raw, 9) == {"a": ["250", "221"], "d": []}[recipient[0]]
    wait_until(lambda: proxy.connections == 0, "the end of the connection")


def test_a_client_that_leaves_ends_a_connection_without_replies(proxy: Proxy) -> None:
    with _raw(proxy.port):
        proxy.drop_replies()
    wait_until(lambda: proxy.connections == 0, "the end of the connection")


def test_a_proxy_refuses_new_connections_and_keeps_the_old(proxy: Proxy) -> None:
    with _client(proxy.port) as client:
        proxy.refuse()
        with pytest.raises(_GONE):
            smtplib.SMTP("127.0.0.1", proxy.port, timeout=10)
        assert client.noop()[0] == 250
        assert proxy.connections == 1
        proxy.accept()
        assert _send(proxy.port, "ann@there.example")[0] == 250


def test_a_proxy_resets_who_comes_while_the_server_is_down(tmp_path: Path) -> None:
    with ExitStack() as stack:
        with running_sink(tmp_path) as sink:
            proxy = stack.enter_context(running_proxy(sink.host, sink.port))  # now: it could get the port of the sink
        with pytest.raises(_GONE):
            _send(proxy.port, "ann@there.example")
        with running_sink(tmp_path, port=sink.port):
            assert _send(proxy.port, "ann@there.example")[0] == 250
