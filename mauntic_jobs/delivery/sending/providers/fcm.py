"""FCM HTTP v1: POST /v1/projects/{projectId}/messages:send.

Source: firebase.google.com/docs/reference/fcm/rest/v1/projects.messages and .../ErrorCode; for what to do about errors
firebase.google.com/docs/cloud-messaging/scale-fcm. It has no idempotency keys: a message that is sent twice replaces
itself on the device, by its collapse id.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import replace

from mauntic_jobs.delivery.render.push import Push
from mauntic_jobs.delivery.render.renderer import ContentError
from mauntic_jobs.delivery.sending.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError, hide
from mauntic_jobs.delivery.sending.providers.google_token import TOKEN_URL, AccessTokens, ServiceAccount
from mauntic_jobs.delivery.sending.providers.http import (
    Answer,
    ExchangeError,
    HttpClient,
    HttpRequest,
    common_outcome,
    json_body,
)
from mauntic_jobs.delivery.sending.providers.http_adapter import HttpProvider
from mauntic_jobs.timekeeping import clock

API = "https://fcm.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"

# Its id, its number, or an id with a domain.
_PROJECT = re.compile(r"(?:[a-z0-9][a-z0-9.-]*:)?[a-z0-9][a-z0-9-]{2,61}")
_LABEL = re.compile(r"[a-zA-Z0-9\-_.~%]{1,50}")
_LARGEST_BYTES = 4096
_RESERVED, _RESERVED_PREFIXES = ("from", "message_type", "gcm"), ("google.", "gcm.")
# As long as a message may be late on its way to FCM, unless `deliver --max-age` says otherwise.
_TTL_SECONDS = 48 * 3600
_LONGEST_TTL_SECONDS = 4 * 7 * 24 * 3600
# Longer numbers are not read: Python refuses to convert them.
_MOST_DIGITS = 18
# Where it does not say, as its documentation has it.
_LIMIT_SECONDS = 60.0
# Once more with a new token only if the claim is still fresh enough for it.
_FRESH_SECONDS = 10.0
_UNAUTHORIZED = 401
_SCHEME = "Bearer "
_CHECK_TOPIC = "mauntic-jobs-check"

# By the errorCode of an FcmError, what is about the message. All others are about the project or the server.
_REJECTED = {
    "INVALID_ARGUMENT": RejectReason.INVALID,  # a token that is none, or a message that is too large or malformed
    "SENDER_ID_MISMATCH": RejectReason.INVALID,  # the token is another project's
    "UNREGISTERED": RejectReason.BOUNCED,  # the app is no longer installed there
}
_OTHER_LOGIN = "THIRD_PARTY_AUTH_ERROR"  # APNs or a web push service refuses what the project has from it


class FcmProvider(HttpProvider[Push]):
    """Sends messages to devices, as a service account of a Firebase project."""

    def __init__(
        self, config: ProviderConfig, client: HttpClient, base: str = API, *, token_url: str = TOKEN_URL
    ) -> None:
        super().__init__(config, client, base)
        project = config.required("projectId")
        if not _PROJECT.fullmatch(project):
            raise ProviderError(f"{config.name}: projectId is not the id of a Firebase project")
        account = ServiceAccount(config, "serviceAccountKey")
        self._secrets += account.secrets
        self._tokens = AccessTokens(account, SCOPE, self._exchanges, token_url)
        self._url = f"{self._base}/v1/projects/{project}/messages:send"
        self._ttl = _ttl(config)

    async def send(self, message: Push) -> Outcome:
        """Send one message; every failure of the provider is an Outcome. Raises ContentError."""
        began = time.monotonic()
        try:
            request, answer = await self._exchange(message)
            if answer.status == _UNAUTHORIZED and _code(answer) != _OTHER_LOGIN:
                # It proves that nothing was sent; the token may have been withdrawn.
                self._tokens.refuse(_token(request))
                if time.monotonic() - began < _FRESH_SECONDS:
                    request, answer = await self._exchange(message)
        except ExchangeError as error:
            return error.outcome
        outcome = self._judged(answer)
        return replace(outcome, reason=hide(outcome.reason, (*self._secrets, _token(request), message.token)))

    async def _exchange(self, message: Push) -> tuple[HttpRequest, Answer]:
        request = await self._request(message)
        return request, await self._exchanges.make(request)

    async def _request(self, message: Push) -> HttpRequest:
        return await self._authorized({"message": _fields(message, self._ttl)})

    async def _check(self) -> HttpRequest:
        # It is judged as a message would be, and not sent.
        return await self._authorized({"message": {"topic": _CHECK_TOPIC}, "validateOnly": True})

    async def _authorized(self, body: dict[str, object]) -> HttpRequest:
        headers = {
            "authorization": f"{_SCHEME}{await self._tokens.get()}",
            "content-type": "application/json",
            "accept": "application/json",
        }
        return HttpRequest(self._url, headers, json_body(body))

    def _judged(self, answer: Answer) -> Outcome:
        said = self._said(answer)
        if answer.is_success:
            name = answer.fields().get("name")
            if isinstance(name, str) and name:
                return Outcome(Verdict.ACCEPTED, provider_message_id=name)
            return Outcome(Verdict.UNKNOWN, f"{answer.status} without a name")
        code = _code(answer)
        if code in _REJECTED:
            return Outcome(Verdict.PERMANENT, f"{answer.status} {said}", reject=_REJECTED[code])
        outcome = common_outcome(answer, said) or Outcome(Verdict.PROVIDER, f"{answer.status} {said}".strip())
        if outcome.verdict is Verdict.RATE_LIMITED and outcome.retry_after is None:
            return replace(outcome, retry_after=_LIMIT_SECONDS)
        return outcome

    def _said(self, answer: Answer) -> str:
        error = answer.fields().get("error")
        return f"{_code(answer)}: {error.get('message')}" if isinstance(error, dict) else ""


def _fields(message: Push, ttl: int) -> dict[str, object]:
    """Return the fields of a message. Raises ContentError for what FCM would refuse."""
    notification = {name: text for name, text in (("title", message.title), ("body", message.body)) if text}
    data = {"deliveryId": message.tags["deliveryId"], **message.data} if "deliveryId" in message.tags else message.data
    _check_data(data)
    texts = (*data, *data.values(), *notification.values())
    size = sum(len(text.encode()) for text in texts)
    if size > _LARGEST_BYTES:
        raise ContentError(f"the message has {size:,} bytes of texts and data, and {_LARGEST_BYTES:,} are allowed")
    label = message.tags.get("campaignId", "")
    fields = {
        "token": message.token,
        "notification": notification,
        "data": dict(data),
        "android": _android(message, ttl, shown=bool(notification)),
        "apns": _apns(message, ttl, shown=bool(notification)),
        "webpush": {"headers": {"TTL": str(ttl), "Topic": message.collapse_id}},
        "fcmOptions": {"analyticsLabel": label} if _LABEL.fullmatch(label) else None,
    }
    return {name: value for name, value in fields.items() if value}


def _check_data(data: Mapping[str, str]) -> None:
    for name in data:
        if name in _RESERVED or name.startswith(_RESERVED_PREFIXES):
            raise ContentError(f"data cannot have the key {name[:40]!r}: FCM keeps it for itself")


def _android(message: Push, ttl: int, *, shown: bool) -> dict[str, object]:
    if not shown:
        # Without a collapse key FCM keeps a hundred messages for a device that is off; with one, four.
        return {"ttl": f"{ttl}s"}
    # With the key that all notifications of an app have by default, it keeps the last one.
    return {"ttl": f"{ttl}s", "collapseKey": message.collapse_id, "notification": {"tag": message.collapse_id}}


def _apns(message: Push, ttl: int, *, shown: bool) -> dict[str, object]:
    until = int(clock.now().timestamp()) + ttl if ttl else 0
    headers = {"apns-collapse-id": message.collapse_id, "apns-expiration": str(until)}
    aps: dict[str, object] = {} if message.badge is None else {"badge": message.badge}
    if not shown:
        # Apple wakes the app for it in no other way.
        aps["content-available"] = 1
        headers["apns-priority"] = "5"
    return {"headers": headers, "payload": {"aps": aps}} if aps else {"headers": headers}


def _ttl(config: ProviderConfig) -> int:
    text = config.text("ttlSeconds")
    if text is None:
        return _TTL_SECONDS
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) > _LONGEST_TTL_SECONDS:
        raise ProviderError(f"{config.name}: ttlSeconds is not a number from 0 to {_LONGEST_TTL_SECONDS}")
    return int(text)


def _token(request: HttpRequest) -> str:
    return request.headers["authorization"].removeprefix(_SCHEME)


def _code(answer: Answer) -> str:
    """Return the errorCode of FCM, or where there is none the status of google.rpc; empty for no error of either."""
    error = answer.fields().get("error")
    if not isinstance(error, dict):
        return ""
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and str(detail.get("@type")).endswith("google.firebase.fcm.v1.FcmError"):
            return str(detail.get("errorCode"))
    return str(error.get("status", ""))
