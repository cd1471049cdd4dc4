"""The APIs of all providers as one server that repeats in its answers whatever it was told, in every way of writing."""

import base64
import itertools
import json
import re
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote_plus

from tests.delivery import fake_fcm, fake_twilio
from tests.delivery.canaries import WAYS
from tests.delivery.fake_api import Fault, Reply, Taken

KINDS = ("postmark", "sendgrid", "ses", "twilio", "fcm")

_RAW = re.compile(r'"Data": ?"([^"]+)"')
GRANTED = "ya29.Xqcanarygrant/9+z=Kw"


def _postmark(text: str) -> Reply:
    return Reply(422, {"ErrorCode": 300, "Message": text})


def _sendgrid(text: str) -> Reply:
    return Reply(400, {"errors": [{"field": "personalizations.0.to.0.email", "message": text}]})


def _ses(text: str) -> Reply:
    return Reply(400, {"message": text}, {"x-amzn-errortype": "MessageRejected"})


_REFUSALS: dict[str, Callable[[str], Reply]] = {
    "postmark": _postmark,
    "sendgrid": _sendgrid,
    "ses": _ses,
    "twilio": lambda text: fake_twilio.error(400, 21211, text),
    "fcm": lambda text: fake_fcm.error(404, "UNREGISTERED", text),
}
_ACCEPTED: dict[str, Reply] = {
    "postmark": Reply(body={"ErrorCode": 0, "MessageID": "m-1", "Message": "OK"}),
    "sendgrid": Reply(202, headers={"X-Message-Id": "m-1"}),
    "ses": Reply(body={"MessageId": "m-1"}),
    "twilio": fake_twilio.created(),
    "fcm": Reply(body={"name": "projects/p/messages/1"}),
}


class Echo:
    """Answers for all providers. `secrets` are what each was given; `whom` finds the recipient in a request."""

    def __init__(self, secrets: dict[str, list[str]], whom: Callable[[str], str]) -> None:
        self._secrets = {**secrets, "fcm": [*secrets["fcm"], GRANTED]}
        self.whom = whom
        self._numbers = itertools.count()
        self.repeated: set[str] = set()

    def __call__(self, taken: Taken) -> Reply | Fault:
        """Answer as the message itself says: its text names what is to become of it."""
        kind = taken.path.split("/")[1]
        if kind == "google_token":
            return Reply(body={"access_token": GRANTED, "expires_in": 3599})
        text = _text(taken)
        said = self.said(kind, text)
        faults: dict[str, Reply | Fault] = {
            "accept": _ACCEPTED[kind],
            "fault": Reply(500, said),
            "malformed": Reply(200, f'{{"message": "{said}'.encode()),
            "elsewhere": Reply(302, said, {"location": f"https://elsewhere.example.com/?q={said[:200]!a}"}),
            "login": Reply(401, _REFUSALS[kind](said).body),
            "limit": Reply(429, _REFUSALS[kind](said).body, {"retry-after": "3600"}),
            "unavailable": Reply(503, _REFUSALS[kind](said).body),
            "reset": Fault.RESET_AFTER_BODY,
            "cut": Fault.CUT_ANSWER,
        }
        fate = re.search(r"fate-(\w+)", text)
        return faults.get(fate[1] if fate else "", _REFUSALS[kind](said))

    def said(self, kind: str, text: str) -> str:
        """Return what is repeated of a message to a provider of this kind: its recipient, the secrets, its content."""
        way, whom = WAYS[next(self._numbers) % len(WAYS)], self.whom(text)
        self.repeated.add(whom)
        words = way(re.sub(r"\s+", " ", text.partition("Dear ")[2])[:60])
        return " ".join([way(whom), f"<{whom}>", "login", *map(way, self._secrets[kind]), f"text {words} bounced"])


def _text(taken: Taken) -> str:
    """Return a request with what it encodes."""
    text = unquote_plus(taken.body.decode(errors="replace"))
    raw = _RAW.search(text.replace(" ", "+"))
    decoded = base64.b64decode(raw[1]).decode(errors="replace") if raw else ""
    with suppress(ValueError):  # Twilio's are forms
        text = json.dumps(json.loads(taken.body), ensure_ascii=False)
    return decoded or text
