"""Payloads without what names a person."""

from typing import Any

import pytest

from mauntic_jobs.redaction.payloads import mask_payload


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"emailAddress": "ann@example.com"}, {"emailAddress": "<address>"}),
        ({"phoneNumber": 15550100123}, {"phoneNumber": "<phone>"}),
        ({"deviceToken": "abc:def"}, {"deviceToken": "<secret>"}),
        ({"from": "Ann <ann@example.com>", "replyTo": None}, {"from": "<address>", "replyTo": None}),
        ({"data": {"to": ["x@y.test", {"Email": "z"}]}}, {"data": {"to": ["<address>", {"Email": "<address>"}]}}),
        ({"body": "call +1 555 0100 123 or ann@example.com"}, {"body": "call <phone> or <address>"}),
        ({"unsubscribeUrl": "https://x.test/u?c=1"}, {"unsubscribeUrl": "<url>"}),
        ({"badge": 3, "deliveryId": "d1", "subject": "Hello"}, {"badge": 3, "deliveryId": "d1", "subject": "Hello"}),
    ],
)  # fmt: skip
def test_payloads_are_masked_by_the_names_of_their_fields_and_by_their_texts(payload: Any, shown: Any) -> None:
    assert mask_payload(payload) == shown
    assert mask_payload(payload, reveal=True) == payload


def test_a_payload_that_is_nested_without_end_is_masked_too() -> None:
    nested: Any = "ann@example.com"
    for _ in range(500):
        nested = [nested]
    assert "ann@example.com" not in str(mask_payload(nested))
