import base64
import json
import time

import pytest
from hypothesis import given, settings, strategies as st

from mauntic_jobs.redaction.text import scrub


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("cannot use postgresql://app:hunter2@db/x", "cannot use postgresql://app:***@db/x"),
        ("redis://:hunter2@cache:6379/0 is down", "redis://:***@cache:6379/0 is down"),
        ("POSTGRES://APP:hunter2@DB/x", "POSTGRES://APP:***@DB/x"),
        ("postgresql+psycopg://app:hun/ter2@db/x", "postgresql+psycopg://app:***@db/x"),
        ("postgresql://a:hunter2@db/x and redis://b:hunter2@c/0", "postgresql://a:***@db/x and redis://b:***@c/0"),
    ],
)
def test_the_password_of_a_url_is_hidden_and_the_rest_is_kept(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app:p@hunter2@db/x",
        "host=db password=hunter2 user=app",
        "password = hunter2",
        "host=db password=a,hunter2 user=app",
        "Password: hunter2",
        "PGPASSWORD=hunter2",
        "SMTP_PASSWORD=hunter2",
        "secret=hunter2",
        "client_secret=hunter2",
        "AWS_SECRET_ACCESS_KEY=hunter2",
        "token: hunter2",
        "https://api.example.com/x?token=hunter2&page=1",
        "https://api.example.com/x?access_token=hunter2",
        "api_key=hunter2",
        "apiKey: hunter2",
        "X-Api-Key: hunter2",
        "Authorization: Bearer hunter2",
        "Authorization: Basic hunter2",
        json.dumps({"password": "hunter2"}),
        json.dumps({"secretAccessKey": "hunter2"}),
        json.dumps({"serverToken": "hunter2"}),
        json.dumps({"authToken": "hunter2"}),
        json.dumps({"apiKey": "hunter2"}),
        json.dumps({"auth": {"user": "app", "pass": "hunter2"}}),
        str({"password": "hunter2"}),
        "password='correct horse hunter2'",
    ],
)
def test_a_credential_is_hidden_however_it_is_written(text: str) -> None:
    assert "hunter2" not in scrub(text)


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("ann@example.com bounced", "<address> bounced"),
        ("bounced: ann.b+tag@mail.example.co.uk.", "bounced: <address>."),
        ('"Ann" <ann@example.com>, bob@example.com', '"Ann" <<address>>, <address>'),
        ("mailto:ann@example.com", "mailto:<address>"),
        ("Key (email)=(ann@example.com) exists", "Key (email)=(<address>) exists"),
        ("jürgen@müller.example", "<address>"),
        ("o'brien+tag@example.com bounced", "<address> bounced"),
        ("'ann@example.com' bounced", "'<address>' bounced"),
        ('"ann lee"@example.com bounced', "<address> bounced"),
        ("https://x.example/u?to=ann%2Btag%40example.com&n=1", "https://x.example/<address>&n=1"),
    ],
)
def test_an_address_is_hidden(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("to +491512345678 failed", "to <phone> failed"),
        ("to +1 (555) 010-9999.", "to <phone>."),
        ("+44 20 7946 0958, +15550109999", "<phone>, <phone>"),
        ("(phone)=(+15550109999)", "(phone)=(<phone>)"),
        ("To=%2B1%20202%20555%200142&x", "To=<phone>&x"),
        ("call (202) 555-0142 or 1-202-555-0142", "call <phone> or <phone>"),
    ],
)
def test_a_phone_number_is_hidden(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Relation mauntic_jobs.runs does not exist. Run `mauntic-jobs db upgrade` first.",
        "run 4711 (process 12 on worker-1, since 2026-10-05 10:00:00+00:00)",
        "2026-10-05 10:00:00.123456+00 to 2026-10-05T11:00:00+02:00",
        "00000000-0000-0000-0000-00000000000a",
        "1 + 12345678 = 12345679",
        "postgresql://127.0.0.1:5432/x",
        "postgresql://app:***@db.example.com/x",
        "user@localhost, @handle, a @ b.c",
        "no password was supplied; the token expired",
        "12,345 events (1.5 s)",
        "job 9b1067e2edb846fdbd547b5ec80895f8 of 1795650166366",
        "PostgresConnectionAuthenticationHandshake",
    ],
)
def test_what_gives_nothing_away_is_kept(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.parametrize("told", ["zoe:hunter2hunter2", "ann@example.com", "Dear Zoë, your code is 4711"])
def test_a_text_in_base64_is_hidden(told: str) -> None:
    assert scrub(f"refused {base64.b64encode(told.encode()).decode()}: no") == "refused <encoded>: no"


@pytest.mark.parametrize(("length", "kept"), [(1999, 1999), (2000, 2000), (2001, 1999)])
def test_a_long_text_is_cut_to_two_thousand_characters(length: int, kept: int) -> None:
    text = "x " * length
    scrubbed = scrub(text[:length])
    assert len(scrubbed) == min(length, 2000)
    assert scrubbed.rstrip("…") == text[:kept]


def test_a_credential_where_the_text_is_cut_is_hidden() -> None:
    for length in range(1950, 2010):
        scrubbed = scrub("x" * (length - 1) + " postgresql://app:hunter2hunter2@db/x")
        assert "hunt" not in scrubbed


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["ann@example.com", "postgresql://a:hunter2@db/x", "+15550109999", "x", "@", ":", " "]))
)
def test_scrubbing_twice_changes_nothing_more(parts: list[str]) -> None:
    once = scrub(" ".join(parts))
    assert scrub(once) == once


@pytest.mark.parametrize("text", ["x" * 50_000, "x@" * 25_000, "x@" + "y" * 50_000, "a:" * 25_000, "a." * 25_000])
def test_a_text_without_spaces_takes_no_time(text: str) -> None:
    started = time.monotonic()
    scrub(text)
    assert time.monotonic() - started < 1
