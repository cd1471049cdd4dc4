"""Calls of Python functions that a message takes, which no machine changes: what is done by the thousand a second.

A change that raises a number has to give a reason for it in the table.
"""

import gc
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from uuid import UUID

import pytest

from bench._deliver_rig import TEMPLATE
from mauntic_jobs.delivery.addresses import parse_address
from mauntic_jobs.delivery.payload import read_message
from mauntic_jobs.delivery.render.mime import Email, build
from mauntic_jobs.delivery.render.personalize import Filler
from mauntic_jobs.delivery.sending.allowed_networks import Network
from mauntic_jobs.delivery.sending.outcome import Outcome
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig
from mauntic_jobs.delivery.sending.providers.http import Answer, HttpClient
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.pool import Chosen
from mauntic_jobs.delivery.sending.providers.smtp import SmtpProvider
from mauntic_jobs.delivery.sending.providers.twilio import TwilioProvider
from mauntic_jobs.settings.types import MessageLimits
from mauntic_jobs.stores.bullmq.commands import ScriptCall, Taken, finish
from mauntic_jobs.stores.bullmq.job import received

FIELDS = ("firstName", "lastName", "company", "product", "price", "city", "month", "code", "score")
DATA = json.dumps({
    "organizationId": str(UUID(int=1)),
    "deliveryId": "d1",
    "emailAddress": "ann@example.com",
    "templateData": {name: f"Tom & {name}" for name in FIELDS},
})  # fmt: skip
MESSAGE, _, _ = read_message(DATA, "email", MessageLimits())
JOB = Taken("1", {"name": "send", "data": DATA, "opts": "{}", "timestamp": "1764288000000"})
TWILIO = TwilioProvider(
    ProviderConfig(UUID(int=1), "twilio", {"accountSid": f"AC{0:032}", "authToken": "-", "fromNumber": "+15005550006"}),
    HttpClient(timeout=1),
)
SERVER = ProviderConfig(UUID(int=2), "custom_smtp", {"host": "127.0.0.1"})
CHOSEN = Chosen((SmtpProvider(SERVER, Network(()), timeout=1, idle=IdleConnections()),), ())
FILLER = Filler(MESSAGE, None, MessageLimits())
EMAIL = Email(
    sender=parse_address("News <news@acme.test>"),
    recipient=parse_address("ann@example.com"),
    subject="Hello",
    message_id="<1@acme.test>",
    date=datetime(2026, 10, 1, 12, tzinfo=UTC),
    html=TEMPLATE["html"],
    text="Hello\n",
    unsubscribe_url="https://example.com/u/1",
)


def judged() -> Outcome:
    """Judge the answer of a provider whose answers say most."""
    return TWILIO._judged(Answer(201, {}, b'{"sid": "SM1", "status": "queued", "error_code": null}'))


def ended() -> ScriptCall:
    """Make the call that ends a job and takes the next one."""
    return finish("q", "token", "1", 0, failed=False, value="null", keep={"age": 3600}, attempts=3, fetch_next=True)


# What is done, and how many calls of functions that are written in Python it takes at most; and why it is so many.
CALLS: dict[str, tuple[Callable[[], object], int]] = {
    # One for each field that may be blank: pydantic asks a function of ours about it.
    "read the message": (lambda: read_message(DATA, "email", MessageLimits()), 8),
    "read the job": (lambda: received(JOB, with_data=False), 12),
    # 16 values, of which each has to be escaped, by a function of the standard library.
    "fill the template": (lambda: FILLER.fill(TEMPLATE["html"], escape=True), 23),
    "read an address": (lambda: parse_address("ann@example.com"), 3),
    # The providers that keep connections are looked up once for a configuration, not for each message.
    "count the places": (lambda: CHOSEN.places, 2),
    # Its JSON is read once, which is four of them.
    "judge an answer": (judged, 20),
    # The names of its keys and its options are written once for a queue and a slot.
    "end the job": (ended, 3),
    "build the email": (lambda: build(EMAIL, eight_bit=True), 32),
}


def calls(work: Callable[[], object]) -> int:
    """Return how many calls the work takes, of functions that are written in Python."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    # A collection of garbage would be counted too: what is told of collections (Hypothesis is), and destructors.
    collects = gc.isenabled()
    gc.disable()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return count - 1


def test_a_collection_of_garbage_is_not_counted() -> None:
    def told(_phase: str, _info: dict[str, int]) -> None: ...

    def work() -> None:
        kept.extend(map(list, [()] * 3 * gc.get_threshold()[0]))

    kept: list[list[object]] = []
    gc.callbacks.append(told)
    try:
        assert calls(work) == 0
    finally:
        gc.callbacks.remove(told)


@pytest.mark.parametrize("name", CALLS)
def test_a_message_takes_no_more_calls_than_it_did(name: str) -> None:
    work, most = CALLS[name]
    # What is compiled or kept is made now.
    work()
    found = calls(work)
    assert 0 < found <= most, found
