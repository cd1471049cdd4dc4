"""SendGrid: POST /v3/mail/send. Source: twilio.com/docs/sendgrid/api-reference/mail-send and .../mail-send/errors.

It has no idempotency keys. An answer names the message in X-Message-Id; the events' `sg_message_id` begins with it, and
`custom_args` (10,000 bytes at most) come back with every event. SendGrid may replace the Message-ID.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from mauntic_jobs.delivery.addresses import Address
from mauntic_jobs.delivery.render.headers import one_line
from mauntic_jobs.delivery.render.mime import Email, headers_of
from mauntic_jobs.delivery.sending.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig
from mauntic_jobs.delivery.sending.providers.http import (
    Answer,
    HttpClient,
    HttpRequest,
    accepted,
    common_outcome,
    json_body,
)
from mauntic_jobs.delivery.sending.providers.http_adapter import HttpProvider
from mauntic_jobs.timekeeping import clock

API = "https://api.sendgrid.com"

_LONGEST_ARGUMENT_BYTES = 2_000
_BAD_REQUEST, _TOO_LARGE = 400, 413
# Errors have no codes, only the field that they are about. The sender, a refused key, a used up plan: all of these are
# about the account. object other field is the message's own.
_OF_THE_SENDER = "from"
_OF_ADDRESSES = ("personalizations", "reply_to")


class SendGridProvider(HttpProvider[Email]):
    """Sends emails as JSON, with an API key that may at least send (`mail.send`)."""

    def __init__(self, config: ProviderConfig, client: HttpClient, base: str = API) -> None:
        super().__init__(config, client, base)
        self._url = f"{self._base}/v3/mail/send"
        self._headers = {
            "authorization": f"Bearer {config.required('apiKey')}",
            "accept": "application/json",
            "content-type": "application/json",
        }

    async def _request(self, message: Email) -> HttpRequest:
        # Plain text comes first, and none may be empty.
        parts = {"text/plain": message.text, "text/html": message.html}
        arguments = {name: each for name, each in message.tags.items() if len(each.encode()) <= _LONGEST_ARGUMENT_BYTES}
        fields: dict[str, object] = {
            "personalizations": [{"to": [{"email": message.recipient.spec}]}],
            "from": _mailbox(message.sender),
            **({"reply_to": _mailbox(message.reply_to)} if message.reply_to else {}),
            "subject": one_line(message.subject),
            "content": [{"type": kind, "value": text} for kind, text in parts.items() if text],
            "headers": {**dict(headers_of(message)), "Message-ID": message.message_id},
            "custom_args": arguments,
        }
        return HttpRequest(self._url, self._headers, json_body(fields))

    def _judged(self, answer: Answer) -> Outcome:
        if answer.is_success:
            return accepted(answer, answer.headers.get("x-message-id"))
        said = self._said(answer)
        common = common_outcome(answer, said)
        if common is not None:
            limited = common.verdict is Verdict.RATE_LIMITED and common.retry_after is None
            return replace(common, retry_after=_reset(answer, clock.now())) if limited else common
        reason, reject = f"{answer.status} {said}".strip(), _reject(answer)
        return Outcome(Verdict.PERMANENT if reject else Verdict.PROVIDER, reason, reject=reject)

    async def _check(self) -> HttpRequest:
        return HttpRequest(f"{self._base}/v3/scopes", self._headers, method="GET")

    def _checked(self, answer: Answer) -> Outcome:
        scopes = answer.fields().get("scopes")
        if answer.is_success and not (isinstance(scopes, list) and "mail.send" in scopes):
            return Outcome(Verdict.PROVIDER, "the API key may not send: it lacks the scope mail.send")
        return super()._checked(answer)

    def _said(self, answer: Answer) -> str:
        return "; ".join(f"{field}: {message}" if field else message for field, message in _errors(answer))


def _mailbox(address: Address) -> dict[str, str]:
    name = one_line(address.name).strip()
    return {"email": address.spec, **({"name": name} if name else {})}


def _errors(answer: Answer) -> list[tuple[str, str]]:
    """Return the fields that are wrong, each with what is wrong with it."""
    errors = answer.fields().get("errors")
    found = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return [(str(each.get("field") or ""), str(each.get("message") or "")) for each in found]


def _reject(answer: Answer) -> RejectReason | None:
    """Return why the message will never be sent, None if it is not the message's fault."""
    places = [field for field, _ in _errors(answer)]
    if answer.status == _TOO_LARGE:
        return RejectReason.OTHER
    if answer.status != _BAD_REQUEST or not places or any(each.startswith(_OF_THE_SENDER) for each in places):
        return None
    return RejectReason.INVALID if any(each.startswith(_OF_ADDRESSES) for each in places) else RejectReason.OTHER


def _reset(answer: Answer, now: datetime) -> float | None:
    """Return in how many seconds the limit ends, by X-RateLimit-Reset, which is in seconds since 1970."""
    with suppress(ValueError, OverflowError):
        return max(0.0, int(answer.headers.get("x-ratelimit-reset", "")) - now.timestamp())
    return None
