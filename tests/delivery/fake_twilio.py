"""Twilio's Messages API, as far as it is published: what it demands of a request, and what it answers."""

import base64
from typing import Any
from urllib.parse import parse_qs

from tests.delivery.fake_api import FakeApi, Reply, Taken

ACCOUNT = f"AC{1:032x}"
SERVICE = f"MG{2:032x}"
AUTH_TOKEN = f"auth-canary-{3:020x}"
NUMBER = "+15005550001"
CONFIG = {"accountSid": ACCOUNT, "authToken": AUTH_TOKEN, "fromNumber": NUMBER}

_PATH = f"/2010-04-01/Accounts/{ACCOUNT}"


def credentials(user: str = ACCOUNT, password: str = AUTH_TOKEN) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def error(status: int, code: int, message: str = "said", *, after: str = "") -> Reply:
    body = {"code": code, "message": message, "more_info": f"https://www.twilio.com/docs/errors/{code}"}
    return Reply(status, {**body, "status": status}, {"retry-after": after} if after else {})


def created(number: int = 1, **fields: Any) -> Reply:
    body = {"sid": f"SM{number:032x}", "status": "queued", "error_code": None, "error_message": None}
    return Reply(201, {**body, **fields})


def answer(taken: Taken) -> Reply:
    """Answer as Twilio does when all is well, or the request is not."""
    if taken.headers.get("authorization") != credentials():
        return error(401, 20003, "Authenticate")
    if (taken.method, taken.path) == ("GET", f"{_PATH}.json"):
        return Reply(body={"sid": ACCOUNT, "status": "active", "auth_token": AUTH_TOKEN})
    if (taken.method, taken.path) != ("POST", f"{_PATH}/Messages.json"):
        return error(404, 20404, f"The requested resource {taken.path} was not found")
    fields = form(taken) if taken.headers.get("content-type") == "application/x-www-form-urlencoded" else {}
    if not fields.get("Body"):
        return error(400, 21602, "Message body is required.")
    if not {"From", "MessagingServiceSid"} & set(fields):
        return error(400, 21603, "A 'From' phone number is required.")
    return created(hash(taken.body) & 0xFFFF_FFFF)


def form(taken: Taken) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(taken.body.decode(), strict_parsing=True).items()}


def sent(api: FakeApi) -> list[dict[str, str]]:
    """Return the messages that were asked for, in order."""
    return [form(taken) for taken in api.taken if taken.path.endswith("/Messages.json")]
