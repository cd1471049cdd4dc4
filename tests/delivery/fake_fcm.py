"""FCM's HTTP v1 API and Google's token endpoint, as far as they are published."""

import base64
import itertools
import json
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.delivery.discovery import problems
from tests.delivery.fake_api import FakeApi, Fault, Reply, Taken

PROJECT = "acme-app"
EMAIL = f"sender@{PROJECT}.iam.gserviceaccount.test"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
AUDIENCE = "https://oauth2.googleapis.com/token"

_SEND = f"/v1/projects/{PROJECT}/messages:send"


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def account_key() -> str:
    """Return the key of a service account, as Google hands it out."""
    pem = private_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fields = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "key-1",
        "private_key": pem.decode(),
        "client_email": EMAIL,
        "token_uri": "http://169.254.169.254/evil",
    }
    return json.dumps(fields)


def config() -> dict[str, Any]:
    return {"projectId": PROJECT, "serviceAccountKey": account_key()}


def error(status: int, code: str, message: str = "said", *, of_fcm: bool = True, after: str = "") -> Reply:
    detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
    rpc = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
    rpc |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
    body = {"code": status, "message": message, "status": rpc.get(status, code)}
    return Reply(
        status, {"error": {**body, "details": [detail] if of_fcm else []}}, {"retry-after": after} if after else {}
    )


class FakeFcm:
    """Answers both; `send` and `grant` may be replaced, and get what has been found to be in order."""

    def __init__(self) -> None:
        self.send: Callable[[dict[str, Any]], Reply | Fault] = self.accepted
        self.grant: Callable[[], Reply | Fault] = self.granted
        self.seconds = 3599
        self._numbers = itertools.count(1)
        self._tokens: set[str] = set()

    def __call__(self, taken: Taken) -> Reply | Fault:
        """Answer a request."""
        if taken.path == "/token":
            refusal = _refusal(taken)
            return Reply(400, {"error": "invalid_grant", "error_description": refusal}) if refusal else self.grant()
        if (taken.method, taken.path) != ("POST", _SEND):
            return error(404, "NOT_FOUND", of_fcm=False)
        if taken.headers.get("authorization", "").removeprefix("Bearer ") not in self._tokens:
            return error(401, "UNAUTHENTICATED", of_fcm=False)
        wrong = problems(taken.fields())
        if wrong:
            return error(400, "INVALID_ARGUMENT", "; ".join(wrong), of_fcm=False)
        return self.send(taken.fields())

    def accepted(self, _: dict[str, Any]) -> Reply:
        return Reply(body={"name": f"projects/{PROJECT}/messages/{next(self._numbers)}"})

    def granted(self) -> Reply:
        token = f"ya29.canary-{next(self._numbers)}"
        self._tokens.add(token)
        return Reply(body={"access_token": token, "expires_in": self.seconds, "token_type": "Bearer"})

    def withdraw(self) -> None:
        """Take back all tokens."""
        self._tokens.clear()


def _refusal(taken: Taken) -> str | None:
    """Return what is wrong with a request for a token."""
    form = {name: values[0] for name, values in parse_qs(taken.body.decode(), strict_parsing=True).items()}
    if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
        return "Invalid grant type"
    head, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in form["assertion"].split("."))
    signed = form["assertion"].rpartition(".")[0].encode()
    private_key().public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    found = json.loads(claims)
    expected = {"iss": EMAIL, "scope": SCOPE, "aud": AUDIENCE}
    lasting = found["exp"] - found["iat"] <= 3600
    right = {**found, **expected} == found and lasting and json.loads(head)["alg"] == "RS256"
    return None if right else "Invalid JWT"


def sent(api: FakeApi) -> list[dict[str, Any]]:
    """Return the messages that were asked for, in order."""
    return [taken.fields()["message"] for taken in api.taken if taken.path == _SEND]


def grants(api: FakeApi) -> int:
    """Return how often a token was asked for."""
    return sum(taken.path == "/token" for taken in api.taken)
