"""For `providers.py`: each provider's configuration, and the message that is sent over it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mauntic_jobs.delivery.addresses import parse_address
from mauntic_jobs.delivery.render.mime import Email
from mauntic_jobs.delivery.render.push import Push
from mauntic_jobs.delivery.render.sms import Sms
from mauntic_jobs.demo.campaign import service_account

_WORDS = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor."
_HTML = "<html><body>\n" + f"<p style='margin:0 0 16px'>{_WORDS}</p>\n" * 54 + "</body></html>\n"
_EMAIL = Email(
    sender=parse_address("News <news@acme.test>"),
    recipient=parse_address("ann@example.com"),
    subject="Hello",
    message_id="<1@acme.test>",
    date=datetime(2026, 10, 1, 12, tzinfo=UTC),
    html=_HTML,
    text=_WORDS,
    tags={"deliveryId": str(UUID(int=1)), "organizationId": str(UUID(int=2))},
)


@dataclass(frozen=True)
class MeasuredProvider:
    """A provider's channel and configuration, what its adapter is given, and what is on the queue."""

    channel: str
    config: Mapping[str, str]
    content: Any
    message: Mapping[str, str]


_MAIL = {"emailAddress": "ann@example.com", "subject": "Hello", "html": _HTML, "text": _WORDS}
PROVIDERS = {
    "postmark": MeasuredProvider("email", {"serverToken": "token", "from": "news@acme.test"}, _EMAIL, _MAIL),
    "sendgrid": MeasuredProvider("email", {"apiKey": "SG.key", "from": "news@acme.test"}, _EMAIL, _MAIL),
    "ses": MeasuredProvider(
        "email",
        {"region": "eu-west-1", "accessKeyId": "id", "secretAccessKey": "key", "from": "news@acme.test"},
        _EMAIL,
        _MAIL,
    ),
    "twilio": MeasuredProvider(
        "sms",
        {"accountSid": f"AC{0:032x}", "authToken": "token", "fromNumber": "+12025550199"},
        Sms("+12025550100", _WORDS),
        {"phoneNumber": "+12025550100", "body": _WORDS},
    ),
    "fcm": MeasuredProvider(
        "push",
        {"projectId": "bench-project", "serviceAccountKey": json.dumps(service_account())},
        Push("token", "Hello", _WORDS, collapse_id="1"),
        {"deviceToken": "token", "title": "Hello", "body": _WORDS},
    ),
}
