"""Odd messages over five routes of real servers: they arrive as they were meant, and their signatures stay valid."""

import base64
from collections.abc import Iterator, Mapping
from email import message_from_bytes, policy
from email.message import MIMEPart
from typing import Any, NamedTuple

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.delivery.authority import Authority, new_authority
from tests.delivery.exim import RELAYED, running_exim
from tests.delivery.postfix import running_postfix
from tests.delivery.postfix_services import LOGIN, running_passwords
from tests.delivery.sink import Received, Sink, running_sink
from tests.delivery.world import World
from tests.support import wait_until
from tests.world.corpus import Case, read_cases

_CASES = read_cases("odd_messages")
_ROUTES = ("postfix", "postfix-starttls", "postfix-seven-bits", "exim-signs-simple", "exim-signs-relaxed")
_SASL = {"smtpd_sasl_auth_enable": "yes", "smtpd_tls_auth_only": "yes", "smtpd_tls_security_level": "encrypt"}
_SIGNED = {"exim-signs-simple": b"c=simple/simple", "exim-signs-relaxed": b"c=relaxed/relaxed"}


class Route(NamedTuple):
    """The port of its first server, and what else a provider needs for it."""

    port: int
    options: dict[str, Any]


class Routes(NamedTuple):
    """The routes by their names, the mailbox at the end of all, and the public key of the signatures."""

    by_name: Mapping[str, Route]
    mailbox: Sink
    public_key: bytes


def _key() -> tuple[str, bytes]:
    """Return a private key in PEM, and the public one as DNS holds it."""
    key = rsa.generate_private_key(65_537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem.decode(), b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routes]:
    authority: Authority = new_authority()
    private, public = _key()
    with running_sink(tmp_path_factory.mktemp("mailbox")) as mailbox, running_passwords() as passwords:
        onward = {"content_filter": f"smtp:[127.0.0.1]:{mailbox.port}"}
        configurations = {
            "plain": onward,
            "starttls": {**onward, **_SASL},
            "seven": {**onward, "smtpd_discard_ehlo_keywords": "8bitmime, chunking, smtputf8"},
        }
        with (
            running_postfix(authority.issue(), authority.pem, configurations, passwords) as postfix,
            running_exim(authority.issue(), second=postfix.ports["plain"], signing=("acme.test", private)) as exim,
        ):
            login: dict[str, Any] = {"tls": {"ca": authority.pem}, **LOGIN}
            given = [
                Route(postfix.ports["plain"], {}),
                Route(postfix.ports["starttls"], login),
                Route(postfix.ports["seven"], {}),
                Route(exim.open, {"tls": {"ca": authority.pem}}),
                Route(exim.secure, {"secure": True, **login}),
            ]
            yield Routes(dict(zip(_ROUTES, given, strict=True)), mailbox, public)


@pytest.mark.parametrize("name", _ROUTES)
def test_odd_messages_arrive_as_they_were_meant(world: World, routes: Routes, name: str) -> None:
    route = routes.by_name[name]
    world.provider("127.0.0.1", route.port, **route.options)
    before = len(routes.mailbox.messages())
    world.add(*(_payload(world, case) for case in _CASES))
    world.deliver()
    problems = [f"{row['delivery_id']}: {row['reason']}" for row in world.ledger() if row["state"] != "sent"]
    assert problems == []
    wait_until(lambda: len(routes.mailbox.messages()) >= before + len(_CASES), "the messages in the mailbox", 120)
    arrived = {each.message_id: each for each in routes.mailbox.messages()[before:]}
    by_case = {row["delivery_id"].partition(".")[0]: arrived[row["message_id"]] for row in world.ledger()}
    differences = {case.id: _differences(case, by_case[case.id]) for case in _CASES}
    assert {id_: each for id_, each in differences.items() if each} == {}
    if name in _SIGNED:
        unsigned = [id_ for id_, each in by_case.items() if _SIGNED[name] not in each.content]
        invalid = [id_ for id_, each in by_case.items() if not _is_valid(each.content, routes.public_key)]
        assert (unsigned, invalid) == ([], [])


def _payload(world: World, case: Case) -> dict[str, Any]:
    given = {name: _expanded(value) for name, value in case.input.items()}
    return world.message(case.id, **{"html": ..., "emailAddress": f"ann@{RELAYED}", **given})


def _expanded(value: Any) -> Any:
    """Return a value of the table with its repeated texts written out."""
    if isinstance(value, dict):
        return {name: _expanded(each) for name, each in value.items()}
    return "".join(text * count for text, count in value) if isinstance(value, list) else value


def _is_valid(content: bytes, public_key: bytes) -> bool:
    return bool(dkim.verify(content, dnsfunc=lambda *_, **__: public_key))


def _differences(case: Case, received: Received) -> list[str]:
    """Return in what a message differs from what was meant."""
    message = message_from_bytes(received.content, policy=policy.default)
    meant = {name: _expanded(value) for name, value in {**case.input, **case.answer}.items()}
    headers = {"Subject": meant.get("subject", "Hello"), **meant.get("headers", {})}
    problems = [
        f"{name}: {str(message[name])[:200]!r} for {value[:200]!r}"
        for name, value in headers.items()
        if str(message[name]) != value
    ]
    if "from" in case.answer and message["From"].addresses[0].display_name != case.answer["from"]:
        problems.append(f"From: {message['From']!r}")
    for kind in ("text", "html"):
        part = message.get_body((kind.replace("text", "plain"),))
        if kind in meant and (part is None or not _is_same(_text_of(part), meant[kind])):
            problems.append(f"{kind}: {part and _text_of(part)[:300]!r} for {meant[kind][:300]!r}")
    return [*problems, *(repr(defect) for part in message.walk() for defect in part.defects)]


def _text_of(part: MIMEPart) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


def _is_same(found: str, meant: str) -> bool:
    """Compare texts by their lines; the last line of a message may have got its end on the way."""
    lines = meant.replace("\r\n", "\n").replace("\r", "\n")
    return found in (lines, lines + "\n")
