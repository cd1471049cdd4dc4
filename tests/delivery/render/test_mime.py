"""Emails as bytes: what comes out is parsed back to what went in, and nothing more."""

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from mauntic_jobs.delivery.addresses import Address, AddressError, parse_address
from mauntic_jobs.delivery.render.headers import HeaderError
from mauntic_jobs.delivery.render.mime import Email, Mime, build, message_id
from mauntic_jobs.delivery.render.plain_text import text_of

EMAIL = Email(
    sender=parse_address("News <news@acme.test>"),
    recipient=parse_address("ann@example.com"),
    subject="Hello",
    message_id="<1@acme.test>",
    date=datetime(2026, 10, 1, 12, tzinfo=UTC),
    html="<p>Hello</p>\n",
    text="Hello\n",
)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=300)
LINES = st.lists(st.one_of(TEXT, st.sampled_from([".", "From x", "a ", "x" * 1200, "ü" * 600])), max_size=6).map(
    "\n".join
)


def changed(**fields: Any) -> Email:
    return EMAIL._replace(**fields)


def parsed(mime: Mime) -> Any:
    message = message_from_bytes(mime.content, policy=policy.default)
    assert not message.defects
    assert all(not part.defects for part in message.walk())
    return message


def lines_of(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.slow
@given(html=LINES, text=LINES, eight_bit=st.booleans())
@settings(deadline=None, max_examples=150)
def test_contents_are_parsed_back(html: str, text: str, eight_bit: bool) -> None:
    mime = build(changed(html=html, text=text), eight_bit=eight_bit)
    bodies = [part.get_payload(decode=True).decode() for part in parsed(mime).iter_parts()]
    assert [lines_of(body) for body in bodies] == [lines_of(text), lines_of(html)]
    assert max(map(len, mime.content.split(b"\r\n"))) <= 998
    assert mime.needs_8bit == (not mime.content.isascii())
    assert eight_bit or mime.content.isascii()
    # What relays change, and DKIM's simple canonicalization would not survive.
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00|[ \t]\r\n|\n\.\r\n|\nFrom ", mime.content)


@pytest.mark.parametrize("place", [0, 1, 2, 40])
@pytest.mark.parametrize(("length", "encoding"), [(998, "7bit"), (999, "quoted-printable")])
def test_a_line_is_as_long_as_servers_must_take_and_no_longer(place: int, length: int, encoding: str) -> None:
    lines = ["y" * (n * 37 % 998) for n in range(41)]
    lines[place] = "x" * length
    part = parsed(build(changed(html=None, text="\n".join(lines)), eight_bit=True))
    assert part["Content-Transfer-Encoding"] == encoding
    assert lines_of(part.get_payload(decode=True).decode()) == "\n".join(lines)


@given(subject=TEXT, name=TEXT)
@settings(deadline=None, max_examples=150)
def test_headers_are_parsed_back_and_never_become_two(subject: str, name: str) -> None:
    sender = Address(name, "news", "acme.test")
    mime = build(changed(subject=subject, sender=sender), eight_bit=False)
    message = parsed(mime)
    expected = ["From", "To", "Subject", "Message-ID", "Date", "MIME-Version", "Content-Type"]
    assert message.keys() == expected
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|[ \t]\r\n|[^\r\n]{999}", mime.content)
    shown = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", subject)
    assert message["subject"].split() == shown.split()
    (address,) = message["from"].addresses
    assert address.addr_spec == "news@acme.test"


def test_a_text_alone_is_no_multipart() -> None:
    message = parsed(build(changed(html=None), eight_bit=False))
    assert message.get_content_type() == "text/plain"
    assert lines_of(message.get_content()) == "Hello\n"


def test_unsubscribing_takes_one_click() -> None:
    message = parsed(build(changed(unsubscribe_url="https://example.com/u/1?a=b"), eight_bit=False))
    assert message["list-unsubscribe"] == "<https://example.com/u/1?a=b>"
    assert message["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    message = parsed(build(changed(unsubscribe_url="mailto:off@example.com"), eight_bit=False))
    assert message["list-unsubscribe-post"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"unsubscribe_url": "https://example.com/ x"},
        {"unsubscribe_url": "https://example.com/>,<https://example.com/"},
        {"unsubscribe_url": "javascript:alert(1)"},
        {"headers": {"Bcc": "b@example.com"}},
        {"headers": {"From": "b@example.com"}},
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"X-A\r\nBcc": "b@example.com"}},
        {"headers": {"X-A": "a\nBcc: b@example.com"}},
        {"headers": {"X-A": "a\x00"}},
        {"headers": {"": "a"}},
    ],
)
def test_what_cannot_be_a_header_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(HeaderError):
        build(changed(**fields), eight_bit=False)


def test_headers_of_the_list_are_set() -> None:
    message = parsed(build(changed(headers={"X-Campaign": "Grüße", "List-ID": "<a.acme.test>"}), eight_bit=False))
    assert (message["x-campaign"], message["list-id"]) == ("Grüße", "<a.acme.test>")


def test_the_message_id_is_the_deliverys_and_the_organizations() -> None:
    one, other = UUID(int=1), UUID(int=2)
    assert message_id("d", one, "acme.test") == message_id("d", one, "acme.test")
    assert len({message_id("d", one, "acme.test"), message_id("d", other, "acme.test"), message_id("e", one, "a")}) == 3


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ann@example.com", Address("", "ann", "example.com")),
        (" Ann@Example.COM ", Address("", "Ann", "example.com")),
        ("Ann <ann@example.com>", Address("Ann", "ann", "example.com")),
        ('"Doe, Ann \\"x\\"" <ann@example.com>', Address('Doe, Ann "x"', "ann", "example.com")),
        ("Grüße <ann@bücher.test>", Address("Grüße", "ann", "xn--bcher-kva.test")),
        ("jörg@example.com", Address("", "jörg", "example.com")),
        ("a.b+c@sub.example.com", Address("", "a.b+c", "sub.example.com")),
        ("a@example.com\n", Address("", "a", "example.com")),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "ann", "ann@", "@example.com", "a@b@c.example", "a b@example.com", "a@example.com, b@example.com"),
        *("a@example.com;b@example.com", "a@example.com\r\nBcc: b@example.com", "a@example.com\x00", "<a@example.com"),
        *("a@example.com, x <b@example.com>", "a@-example.com", "a@exa mple.com"),
        *("x" * 70 + "@example.com", "a@" + "x." * 200 + "com", "a@example.com>"),
    ],
)
def test_what_is_not_one_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="email address"):
        parse_address(text)


def test_an_html_email_without_a_text_gets_one() -> None:
    html = """<html><head><style>p{}</style></head><body><h1>Hi &amp; bye</h1><p>One<br>two
      <a href="https://example.com/a?b=1">three</a></p><ul><li>x</li><li>y</li></ul><!-- no --></body></html>"""
    assert text_of(html) == "Hi & bye\nOne\ntwo three (https://example.com/a?b=1)\n- x\n- y"
