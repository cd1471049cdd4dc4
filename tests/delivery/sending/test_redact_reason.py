"""What a provider repeats of a message is not in the reason; what it says of its own is."""

import pytest

from mauntic_jobs.delivery.render.push import Push
from mauntic_jobs.delivery.render.sms import Sms
from mauntic_jobs.delivery.sending.providers.config import hide
from mauntic_jobs.delivery.sending.redact_reason import without
from tests.delivery.adapters import changed

_TEXT = "Dear Zoë Quill,\nyour appointment is on Friday"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("21211 +12025550142 is no mobile", "21211 *** is no mobile"),
        ("21211 1 (202) 555-0142 is no mobile", "21211 <phone> is no mobile"),
        ("21211 %2B1%20202%20555%200142 is no mobile", "21211 <phone> is no mobile"),
        ("filtered: Dear Zoë Quill, your", "filtered: <content>"),
        ("filtered: DEAR ZOË QUILL, YOUR", "filtered: <content>"),
        ("filtered: Dear+Zoë+Quill,+your", "filtered: <content>"),
        ("filtered: Dear+Zo%C3%AB+Quill%2C+your", "filtered: <content>"),
        ("the text has an appointment in it", "the text has an appointment in it"),
    ],
)
def test_a_passage_and_the_recipient_are_left_out(said: str, reason: str) -> None:
    assert without(said, Sms("+12025550142", _TEXT)) == reason


def test_a_token_and_values_are_left_out() -> None:
    push = Push("devtok:1", None, None, "c", {"name": "Zoë Quill"})
    assert without("404 devtok:1 devtok%3A1 ZOË QUILL gone", push) == "404 *** *** *** gone"


def test_nothing_is_left_out_of_what_is_said_of_an_email() -> None:
    email = changed(html="<p>Hello</p>" * 1000)
    assert without("550 5.1.1 no such user", email) == "550 5.1.1 no such user"
    assert without("550 <p>Hello</p><p>Hello</p> is spam", email) == "550 <content> is spam"


@pytest.mark.parametrize(
    ("secret", "said", "reason"),
    [
        ("pw7#", "login pw7# failed", "login *** failed"),
        ("pw7#", "login xpw7#x failed", "login xpw7#x failed"),
        ("a/b c=d+e", "a%2Fb%20c%3Dd%2Be A%2FB+C%3DD%2BE YS9iIGM9ZCtl", "*** *** ***"),
        ("abc", "abc", "abc"),
    ],
)
def test_a_secret_is_hidden_however_it_is_written(secret: str, said: str, reason: str) -> None:
    assert hide(said, [secret]) == reason
