"""Refusals of a connection, replies before a close, and answers that are not SMTP."""

from pathlib import Path

import pytest

from mauntic_jobs.delivery.render.mime import Mime
from mauntic_jobs.delivery.sending.allowed_networks import Network
from mauntic_jobs.delivery.sending.outcome import Blame, Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.smtp.connection import SmtpConnection
from mauntic_jobs.delivery.sending.smtp.login import Features, SmtpServer
from tests.delivery.proxy import running_proxy
from tests.delivery.scripted import EHLO, GO_AHEAD, GREETING, OK, running_script
from tests.delivery.sending.smtp.test_connection import HERE, LOGIN, plain, send
from tests.delivery.sink import Sink, running_sink
from tests.support import run_on_loop


def send_to(port: int, *recipients: str, host: str = "127.0.0.1") -> list[Outcome]:
    async def run() -> list[Outcome]:
        connection = SmtpConnection(SmtpServer(host, port), HERE, timeout=2)
        outcomes = [await connection.send("news@acme.test", each, plain) for each in recipients]
        await connection.close()
        return outcomes

    return run_on_loop(run())


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_connection_that_may_carry_no_more_messages_is_replaced_at_once(tmp_path: Path, pipelining: bool) -> None:
    with running_sink(tmp_path, pipelining=pipelining) as sink, running_proxy(sink.host, sink.port) as proxy:
        sink.behaviour.per_connection = 3
        outcomes = send_to(proxy.port, *(f"a{n}@example.com" for n in range(10)))
        assert [each.verdict for each in outcomes] == [Verdict.ACCEPTED] * 10
        assert proxy.accepted == 4
    assert len(sink.messages()) == 10


def test_a_new_connection_that_may_carry_no_message_is_not_asked_again_at_once(sink: Sink) -> None:
    sink.behaviour.per_connection = 0
    (outcome,) = send(sink, "a@example.com")
    assert (outcome.verdict, outcome.blame) == (Verdict.DEFERRED, Blame.SESSION)
    assert sink.behaviour.heard.count("EHLO") == 1


@pytest.mark.parametrize("script", ["shut-421", "data-421"])
def test_a_kept_connection_that_is_shut_down_is_replaced_once(sink: Sink, script: str) -> None:
    sink.behaviour.recipients["ann"] = script
    fine, shut = send(sink, "ok@example.com", "ann@example.com")
    assert fine.verdict is Verdict.ACCEPTED
    assert (shut.verdict, shut.blame) == (Verdict.PROVIDER, Blame.SESSION)
    assert "421 4.3.2 shutting down" in shut.reason
    # The second connection is a new one, and says the same.
    assert sink.behaviour.heard.count("EHLO") == 2


def test_a_connection_on_which_messages_are_refused_again_and_again_is_not_kept(sink: Sink) -> None:
    async def run() -> list[bool]:
        connection = SmtpConnection(SmtpServer(sink.host, sink.port), HERE, timeout=2)
        worn = []
        for recipient in ("reject-550", "defer-451", "ok", "reject-550", "data-554", "policy-550"):
            await connection.send("news@acme.test", f"{recipient}@example.com", plain)
            worn.append(connection.is_worn)
        await connection.close()
        return worn

    assert run_on_loop(run()) == [False, False, False, False, False, True]


def test_a_server_that_greylists_with_421_asks_to_wait(sink: Sink) -> None:
    sink.behaviour.at_recipient = lambda _: "421 4.7.0 Greylisted, please retry in 5 minutes"
    (outcome,) = send(sink, "ann@example.com")
    assert (outcome.verdict, outcome.blame, outcome.retry_after) == (Verdict.DEFERRED, Blame.WAIT, 300)


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_refusal_counts_although_the_server_closes_after_it(tmp_path: Path, pipelining: bool) -> None:
    with running_sink(tmp_path, pipelining=pipelining) as sink:
        sink.behaviour.closing = ("221", "421", "550")
        (outcome,) = send(sink, "reject-550@example.com")
        heard = sink.behaviour.heard
    assert (outcome.verdict, outcome.reject) == (Verdict.PERMANENT, RejectReason.BOUNCED)
    assert outcome.reason == "the recipient was refused: 550 5.1.1 no such user"
    assert heard.count("MAIL") == 1


@pytest.mark.parametrize(
    ("replies", "words", "verdict"),
    [
        (
            (b"421 4.3.2 too many connections\r\n",),
            "the greeting: 421 4.3.2 too many connections",
            Verdict.RATE_LIMITED,
        ),
        ((b"421 4.3.2 not now\r\n",), "the greeting: 421 4.3.2 not now", Verdict.PROVIDER),
        ((GREETING, b"421 4.7.0 not today\r\n"), "EHLO: 421 4.7.0 not today", Verdict.PROVIDER),
        ((GREETING, b"550 5.7.1 your name is blocked\r\n"), "EHLO: 550 5.7.1 your name is blocked", Verdict.PROVIDER),
        ((GREETING, EHLO, b"421 4.7.0 go away\r\n"), "the sender was refused: 421 4.7.0 go away", Verdict.PROVIDER),
    ],
)
def test_the_words_of_a_server_that_closes_are_kept(replies: tuple[bytes, ...], words: str, verdict: Verdict) -> None:
    with running_script(*replies) as server:
        (outcome,) = send_to(server.port, "a@example.com")
    assert outcome.verdict is verdict
    assert words in outcome.reason


def test_a_farewell_that_nobody_asked_for_is_kept_too() -> None:
    with running_script(GREETING + b"421 4.4.2 idle for too long\r\n") as server:

        async def run() -> Outcome:
            from mauntic_jobs.delivery.sending.smtp.wire import LostError, Wire

            wire = await Wire.connect("127.0.0.1", server.port, None, "127.0.0.1")
            assert (await wire.reply()).code == 220
            await wire._ended.wait()
            with pytest.raises(LostError, match="idle for too long"):
                wire.write(b"EHLO here\r\n")
            return Outcome(Verdict.ACCEPTED)

        run_on_loop(run())


ODD = {
    "superscript digits": "2\u00b2\u2070 welcome\r\n".encode(),
    "Arabic digits": "\u0662\u0662\u0660 welcome\r\n".encode(),
    "no text": b"\r\n",
    "no code": b"welcome\r\n",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a code that SMTP does not have": b"999 welcome\r\n",
    "a preliminary code": b"150 welcome\r\n",
    "a binary answer": bytes(range(256)) + b"\r\n",
    "a line that is too long": b"220 " + b"x" * 20_000 + b"\r\n",
    "a line that does not end": b"2" * 20_000,
    "too many lines": b"250-x\r\n" * 200,
    "no line break but CR": b"220 welcome\r",
}


@pytest.mark.parametrize("place", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_answer_before_the_content_is_never_ambiguous(odd: bytes, place: str) -> None:
    before = [GREETING, EHLO, OK, OK][: ["greeting", "EHLO", "MAIL", "RCPT", "DATA"].index(place)]
    with running_script(*before, odd) as server:
        (outcome,) = send_to(server.port, "a@example.com")
    cut_off = "the connection was closed" in outcome.reason
    assert cut_off or "does not speak SMTP" in outcome.reason
    # What a server says that does not speak SMTP is about none of the messages.
    assert outcome.verdict is (Verdict.TEMPORARY if cut_off and place in ("MAIL", "RCPT", "DATA") else Verdict.PROVIDER)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_answer_to_the_content_is_ambiguous(odd: bytes) -> None:
    with running_script(GREETING, EHLO, OK, OK, GO_AHEAD, odd) as server:
        (outcome,) = send_to(server.port, "a@example.com")
    assert outcome.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("replies", "verdict"),
    [
        ((OK, OK, b"250 2.0.0 no content wanted\r\n"), Verdict.PROVIDER),
        ((GO_AHEAD,), Verdict.PROVIDER),
        ((OK, OK, GO_AHEAD, GO_AHEAD), Verdict.UNKNOWN),
    ],
)
def test_an_answer_to_another_command_is_no_answer(replies: tuple[bytes, ...], verdict: Verdict) -> None:
    with running_script(GREETING, EHLO, *replies) as server:
        (outcome,) = send_to(server.port, "a@example.com")
    assert outcome.verdict is verdict


def test_a_code_without_text_is_an_answer() -> None:
    with running_script(b"220\r\n", EHLO, b"250\r\n", b"250\r\n", b"354\r\n", b"250\r\n") as server:
        (outcome,) = send_to(server.port, "a@example.com")
    assert outcome.verdict is Verdict.ACCEPTED


def test_a_fault_before_the_content_is_not_ambiguous() -> None:
    def broken(_: Features) -> Mime:
        raise ZeroDivisionError("x")

    async def run(port: int) -> Outcome:
        connection = SmtpConnection(SmtpServer("127.0.0.1", port), Network(loopback=True), timeout=2)
        return await connection.send("news@acme.test", "a@example.com", broken)

    with running_script(GREETING, EHLO) as server:
        outcome = run_on_loop(run(server.port))
    assert (outcome.verdict, outcome.reason) == (Verdict.PROVIDER, "127.0.0.1: ZeroDivisionError: x")


@pytest.mark.parametrize(
    ("name", "sender", "said"),
    [
        ("mail.acme.test", "news@acme.test", b"EHLO mail.acme.test\r\n"),
        (None, "news@acme.test", b"EHLO acme.test\r\n"),
        (None, None, b"EHLO [127.0.0.1]\r\n"),
    ],
)
def test_a_server_is_greeted_by_name_or_else_by_the_senders_domain(
    name: str | None, sender: str | None, said: bytes
) -> None:
    async def run(port: int) -> Outcome:
        server = SmtpServer("127.0.0.1", port, hello=name)
        connection = SmtpConnection(server, HERE, timeout=2)
        try:
            return await connection.check(sender, "postmaster@example.com")
        finally:
            await connection.close()

    with running_script(GREETING, EHLO, OK, OK, OK) as server:
        assert run_on_loop(run(server.port)).verdict is Verdict.ACCEPTED
    assert server.heard[0] == said


def test_a_login_that_is_refused_for_the_number_of_logins_is_no_failure_of_the_server() -> None:
    refusal = b"454 4.7.0 Too many login attempts, please try again later. acme\r\n"

    async def run(port: int) -> Outcome:
        server = SmtpServer("127.0.0.1", port, **LOGIN)
        return await SmtpConnection(server, HERE, timeout=2).send("news@acme.test", "a@example.com", plain)

    with running_script(GREETING, b"250-here\r\n250 AUTH PLAIN\r\n", refusal) as scripted:
        outcome = run_on_loop(run(scripted.port))
    # To end connections would make more logins.
    assert (outcome.verdict, outcome.is_crowded) == (Verdict.RATE_LIMITED, False)
    # A server may repeat what it was told.
    assert outcome.reason == "127.0.0.1 refused the login: 454"
