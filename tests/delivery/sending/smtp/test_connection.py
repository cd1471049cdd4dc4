"""What is said over SMTP, and what is made of every answer."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.render.mime import Mime
from mauntic_jobs.delivery.sending.allowed_networks import Network, parse_networks
from mauntic_jobs.delivery.sending.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers import idle as idle_connections
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.smtp import SmtpProvider
from mauntic_jobs.delivery.sending.smtp.connection import SmtpConnection
from mauntic_jobs.delivery.sending.smtp.login import Features, SmtpServer
from mauntic_jobs.delivery.sending.smtp.tls import context_of
from mauntic_jobs.delivery.sending.smtp.wire import LostError, Reply, Wire
from tests.delivery.adapters import EMAIL
from tests.delivery.proxy import running_proxy
from tests.delivery.sink import Sink, certificate, running_sink, server_tls
from tests.support import run_on_loop, wait_until

HERE = Network(loopback=True)
LOGIN: dict[str, Any] = {"username": "acme", "password": "not-a-real-one"}
CONTENT = b"Subject: x\r\nMessage-ID: <1@acme.test>\r\n\r\nHello\r\n"


def plain(_: Features) -> Mime:
    return Mime(CONTENT, needs_8bit=False, needs_smtputf8=False)


def send(
    sink: Sink, *recipients: str, compose: Callable[[Features], Mime] = plain, port: int = 0, **server: Any
) -> list[Outcome]:
    """Send a message to each recipient over one connection."""

    async def run() -> list[Outcome]:
        connection = SmtpConnection(SmtpServer(sink.host, port or sink.port, **server), HERE, timeout=2)
        outcomes = [await connection.send("news@acme.test", each, compose) for each in recipients]
        await connection.close()
        return outcomes

    return run_on_loop(run())


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("recipient", "verdict", "bounced", "reason"),
    [
        ("ok", Verdict.ACCEPTED, False, ""),
        ("reject-550", Verdict.PERMANENT, True, "the recipient was refused: 550 5.1.1 no such user"),
        ("policy-550", Verdict.PERMANENT, False, "the recipient was refused: 550 5.7.1 refused by policy"),
        ("relay-554", Verdict.PROVIDER, False, "the recipient was refused: 554 5.7.1 <ann@example.com>: Relay access"),
        ("sender-550", Verdict.PROVIDER, False, "the recipient was refused: 550 5.1.0 <news@acme.test>: Sender"),
        ("full-552", Verdict.PERMANENT, False, "the recipient was refused: 552 5.2.2 mailbox full"),
        (
            "data-unverified-554",
            Verdict.PROVIDER,
            False,
            "the content was refused: 554 Message rejected: Email address",
        ),
        ("defer-451", Verdict.DEFERRED, False, "the recipient was refused: 451 4.3.0 try again later"),
        ("shut-421", Verdict.PROVIDER, False, "421 4.3.2 shutting down"),
        ("data-451", Verdict.DEFERRED, False, "the content was refused: 451 4.3.0 not now"),
        ("data-554", Verdict.PERMANENT, False, "the content was refused: 554 5.6.0 content refused"),
        ("data-421", Verdict.PROVIDER, False, "the content was refused: 421"),
        ("drop-rcpt", Verdict.TEMPORARY, False, "the connection was"),
        ("drop-after-dot", Verdict.UNKNOWN, False, "the connection was"),
        ("freeze", Verdict.UNKNOWN, False, "no answer for 2 s"),
    ],
)
def test_every_answer_has_its_verdict(
    tmp_path: Path, recipient: str, verdict: Verdict, bounced: bool, reason: str, pipelining: bool
) -> None:
    with running_sink(tmp_path, pipelining=pipelining) as sink:
        first, after = send(sink, f"{recipient}@example.com", "ok@example.com")
    assert (first.verdict, first.reject is RejectReason.BOUNCED) == (verdict, bounced)
    assert reason in first.reason
    # The next message has nothing to do with it.
    assert after.verdict is Verdict.ACCEPTED
    assert sink.messages()[-1].recipients == ("ok@example.com",)


def test_nothing_is_sent_to_a_server_that_does_not_greet_well(sink: Sink) -> None:
    sink.behaviour.greeting = "554 no"
    assert [each.verdict for each in send(sink, "ok@example.com")] == [Verdict.PROVIDER]
    sink.behaviour.greeting = "HTTP/1.1 400 Bad Request"
    (outcome,) = send(sink, "ok@example.com")
    assert outcome.verdict is Verdict.PROVIDER
    assert "does not speak SMTP" in outcome.reason
    sink.behaviour.greeting = "2\u00b20 welcome"
    (outcome,) = send(sink, "ok@example.com")
    assert outcome.verdict is Verdict.PROVIDER


def test_a_server_that_is_not_there_is_of_no_use_to_any_message(sink: Sink) -> None:
    (outcome,) = send(sink, "ok@example.com", port=1)
    assert outcome.verdict is Verdict.PROVIDER
    assert "cannot connect" in outcome.reason


@pytest.mark.parametrize("pipelining", [True, False])
def test_dots_and_long_contents_arrive_as_they_were(tmp_path: Path, pipelining: bool) -> None:
    content = b"Subject: x\r\nMessage-ID: <1@acme.test>\r\n\r\n.\r\n..a\r\n" + b"x" * 70 + b"\r\n.b\r\n" * 20_000

    def compose(_: Features) -> Mime:
        return Mime(content, needs_8bit=False, needs_smtputf8=False)

    with running_sink(tmp_path, pipelining=pipelining) as sink:
        assert send(sink, "ok@example.com", compose=compose)[0].verdict is Verdict.ACCEPTED
    assert sink.messages()[0].content == content


def test_a_kept_connection_that_the_server_has_closed_is_opened_again(sink: Sink) -> None:
    with running_proxy(sink.host, sink.port) as proxy:

        async def run() -> list[Outcome]:
            connection = SmtpConnection(SmtpServer("127.0.0.1", proxy.port), HERE, timeout=2)
            outcomes = [await connection.send("news@acme.test", "a@example.com", plain)]
            await asyncio.to_thread(proxy.reset_all)
            outcomes.append(await connection.send("news@acme.test", "b@example.com", plain))
            await connection.close()
            return outcomes

        assert [each.verdict for each in run_on_loop(run())] == [Verdict.ACCEPTED] * 2
    assert len(sink.messages()) == 2


def test_a_kept_connection_that_the_network_may_have_forgotten_is_not_used_again(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_connections, "IDLE_SECONDS", 0.1)
    with running_proxy(sink.host, sink.port) as proxy:
        values = {"host": "127.0.0.1", "port": proxy.port, "from": "news@acme.test"}
        config = ProviderConfig(uuid4(), "custom_smtp", values)

        async def run() -> list[Outcome]:
            provider = SmtpProvider(config, HERE, hello="here.example", timeout=2, idle=IdleConnections())
            outcomes = [await provider.send(EMAIL)]
            await asyncio.to_thread(proxy.forget_all)
            await asyncio.sleep(0.2)
            outcomes.append(await provider.send(EMAIL))
            await provider.close()
            return outcomes

        assert [each.verdict for each in run_on_loop(run())] == [Verdict.ACCEPTED] * 2


def test_one_connection_is_kept_for_many_messages(sink: Sink) -> None:
    with running_proxy(sink.host, sink.port) as proxy:
        outcomes = send(sink, *(f"a{n}@example.com" for n in range(10)), port=proxy.port)
        assert {each.verdict for each in outcomes} == {Verdict.ACCEPTED}
        assert proxy.accepted == 1


def test_an_exchange_that_is_ended_says_how_far_it_came(sink: Sink) -> None:
    async def run(recipient: str) -> Outcome:
        connection = SmtpConnection(SmtpServer(sink.host, sink.port), HERE, timeout=5)
        sending = asyncio.create_task(connection.send("news@acme.test", recipient, plain))
        await asyncio.sleep(0.3)
        connection.abort()
        return await sending

    assert run_on_loop(run("freeze@example.com")).verdict is Verdict.UNKNOWN

    async def stuck() -> Outcome:
        # An address of a network that is for documentation: nobody answers.
        connection = SmtpConnection(SmtpServer("127.0.0.1", sink.port), HERE, timeout=5)
        connection.abort()
        return await connection.send("news@acme.test", "a@example.com", plain)

    assert run_on_loop(stuck()).verdict is Verdict.TEMPORARY


def test_a_password_goes_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate(tmp_path)
    with running_sink(tmp_path, tls=server_tls(pem), login=("acme", "not-a-real-one")) as sink:
        (unknown,) = send(sink, "a@example.com", **LOGIN)
        assert unknown.verdict is Verdict.PROVIDER
        assert "from an authority that is not trusted" in unknown.reason
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        context_of.cache_clear()
        try:
            assert [each.verdict for each in send(sink, "a@example.com", "b@example.com", **LOGIN)] == [
                Verdict.ACCEPTED
            ] * 2
            (wrong,) = send(sink, "a@example.com", **{**LOGIN, "password": "wrong"})
        finally:
            context_of.cache_clear()
    assert wrong.verdict is Verdict.PROVIDER
    assert wrong.reason == "127.0.0.1 refused the login: 535"


def test_a_login_that_is_not_offered_is_named(sink: Sink) -> None:
    (outcome,) = send(sink, "a@example.com", **LOGIN)
    assert outcome.verdict is Verdict.PROVIDER
    assert "no login" in outcome.reason


def test_a_password_is_not_sent_in_the_clear(tmp_path: Path) -> None:
    host = _address_of_this_machine()
    with running_sink(tmp_path, host=host, login=("acme", "not-a-real-one")) as sink:

        async def run() -> Outcome:
            connection = SmtpConnection(
                SmtpServer(host, sink.port, **LOGIN), Network(parse_networks(f"{host}/32")), timeout=2
            )
            return await connection.send("news@acme.test", "a@example.com", plain)

        outcome = run_on_loop(run())
    assert outcome.verdict is Verdict.PROVIDER
    assert outcome.reason == f"{host} offers no TLS, and the password is not sent in the clear"
    assert sink.behaviour.heard == ["EHLO"]


def test_what_a_server_does_not_take_is_refused_by_name(tmp_path: Path) -> None:
    def compose(_: Features) -> Mime:
        return Mime(CONTENT, needs_8bit=False, needs_smtputf8=True)

    with running_sink(tmp_path, size=10) as sink:
        (too_long,) = send(sink, "a@example.com")
        assert too_long.verdict is Verdict.PERMANENT
        assert "and 127.0.0.1 takes 10" in too_long.reason
    with running_sink(tmp_path) as sink:
        (utf8,) = send(sink, "ä@example.com", compose=compose)
        assert (utf8.verdict, utf8.reason) == (Verdict.PERMANENT, "127.0.0.1 takes no addresses in UTF-8 (SMTPUTF8)")
    with running_sink(tmp_path, smtputf8=True) as sink:
        assert send(sink, "ä@example.com", compose=compose)[0].verdict is Verdict.ACCEPTED


def test_replies_are_read_in_whatever_pieces_they_come() -> None:
    async def run() -> list[Reply]:
        wire = Wire()
        for byte in b"250-one\r\n250 two\r\n354 go\n":
            wire.data_received(bytes([byte]))
        return [await wire.reply(), await wire.reply()]

    assert run_on_loop(run()) == [Reply(250, ("one", "two")), Reply(354, ("go",))]


def test_a_reply_is_waited_for_until_the_instant_that_was_said_last() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        wire.wait_until(loop.time() + 0.05)
        wire.wait_until(loop.time() + 0.3)
        loop.call_later(0.1, wire.data_received, b"250 one\r\n")
        assert await wire.reply() == Reply(250, ("one",))
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await wire.reply()
        wire.wait_until(loop.time() + 30)
        loop.call_later(0.01, wire.data_received, b"250 two\r\n")
        assert await wire.reply() == Reply(250, ("two",))
        wire.abort()

    run_on_loop(run())


def _address_of_this_machine() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the system only chooses where it would be sent from.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine is in no network")
        address: str = probe.getsockname()[0]
        return address


def test_an_exchange_that_is_cancelled_is_no_part_of_the_next(sink: Sink) -> None:
    async def run() -> Outcome:
        connection = SmtpConnection(SmtpServer(sink.host, sink.port), HERE, timeout=5)
        sending = asyncio.create_task(connection.send("news@acme.test", "slow@example.com", plain))
        await asyncio.to_thread(wait_until, sink.messages, "the message")
        sending.cancel()
        await asyncio.wait({sending})
        outcome = await connection.send("news@acme.test", "reject-550@example.com", plain)
        await connection.close()
        return outcome

    assert run_on_loop(run()).reason == "the recipient was refused: 550 5.1.1 no such user"


def test_a_reply_without_an_end_is_the_end_of_the_connection() -> None:
    async def run() -> None:
        wire = Wire()
        for _ in range(200):
            wire.data_received(b"250-more\r\n")
        with pytest.raises(LostError, match="more than 100 lines"):
            await wire.reply()

    run_on_loop(run())
