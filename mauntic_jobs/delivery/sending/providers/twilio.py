"""Twilio: POST /2010-04-01/Accounts/{Sid}/Messages.json. Source: twilio.com/docs/messaging/api/message-resource.

It has no idempotency keys for messages, and keeps no tag with them: later events carry its own id, the `sid`.
"""

import base64
import re
from dataclasses import replace
from urllib.parse import urlencode

from mauntic_jobs.delivery.render.renderer import WritingError
from mauntic_jobs.delivery.render.sms import Sms, sender_of
from mauntic_jobs.delivery.sending.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError, hide
from mauntic_jobs.delivery.sending.providers.http import Answer, ExchangeError, HttpClient, HttpRequest, common_outcome
from mauntic_jobs.delivery.sending.providers.http_adapter import HttpProvider
from mauntic_jobs.timekeeping import clock

API = "https://api.twilio.com"

_ACCOUNT = re.compile(r"AC[0-9a-fA-F]{32}")
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")
_REFUSED = range(400, 500)
# Of a message that was taken: not handed over to a carrier, or not by the carrier to the recipient.
_FAILED, _UNDELIVERED = "failed", ("undelivered", "canceled")
_DAY_LIMIT_SECONDS = 3600.0

# By code, as twilio.com/docs/api/errors has them: what is about this message or its recipient. What is not listed is
# about the account or its settings. A region or a destination that the account may not send to is a fault of every
# message to it and of no other, so it must not keep those from being sent.
_REJECTED = {
    14101: RejectReason.INVALID,  # "To" is not a number for SMS
    14103: RejectReason.INVALID,  # the text is not valid
    21211: RejectReason.INVALID,  # "To" is not a phone number
    21214: RejectReason.INVALID,  # "To" cannot be reached
    21216: RejectReason.BLOCKED,  # Twilio blocks the destination: fraud, or regulation
    21217: RejectReason.INVALID,  # "To" does not appear to be valid
    21401: RejectReason.INVALID,  # "To" is not a valid number
    21408: RejectReason.BLOCKED,  # the account may not send to the region
    21602: RejectReason.INVALID,  # there is no text
    21604: RejectReason.INVALID,  # there is no "To"
    21605: RejectReason.INVALID,  # the text is too long
    21608: RejectReason.BLOCKED,  # a trial account, and "To" is not verified
    21610: RejectReason.UNSUBSCRIBED,  # the recipient has answered STOP
    21612: RejectReason.BLOCKED,  # there is no way from "From" to "To"
    21614: RejectReason.INVALID,  # "To" is no mobile number
    21617: RejectReason.INVALID,  # the text is longer than 1,600 characters
    21618: RejectReason.BLOCKED,  # all carriers filter the text
    21619: RejectReason.INVALID,  # there is no text
    21635: RejectReason.INVALID,  # "To" is a landline
    21703: RejectReason.BLOCKED,  # no sender of the messaging service can send this to "To"
    30003: RejectReason.TIMED_OUT,  # the handset is switched off, or out of reach
    30004: RejectReason.BLOCKED,  # the destination is blocked
    30005: RejectReason.BOUNCED,  # the number is unknown
    30006: RejectReason.INVALID,  # a landline, or a carrier that cannot be reached
    30007: RejectReason.BLOCKED,  # the text is filtered
    30008: RejectReason.OTHER,  # not delivered, for an unknown reason
    30450: RejectReason.BLOCKED,  # the destination is blocked for a time
}
# "From" is not the account's, or cannot send: the message's own fault if it says whom it is from.
_SENDER = (21210, 21212, 21603, 21606, 21607, 21616, 21659, 21660, 21661)
_DAY_LIMIT = 63038  # the account has sent its messages of the day
_LIMITED = (
    20429,  # too many requests at once
    21611,  # the queue of the sender is full
    30001,  # the queue is full
    _DAY_LIMIT,
)
_TOO_OFTEN = 14107  # to this recipient, from this sender
_NOBODY_KNOWS = 30410  # the carrier did not answer in time


class TwilioProvider(HttpProvider[Sms]):
    """Sends text messages from a number, or from a messaging service, which finds the number."""

    def __init__(self, config: ProviderConfig, client: HttpClient, base: str = API) -> None:
        super().__init__(config, client, base)
        account = _matching(config, "accountSid", config.required("accountSid"), _ACCOUNT)
        service = config.text("messagingServiceSid")
        self._service = _matching(config, "messagingServiceSid", service, _SERVICE) if service else None
        self.sender = _sender(config)
        if not self.sender and not self._service:
            raise ProviderError(f"{config.name}: it has neither fromNumber nor messagingServiceSid")
        self._account = f"{self._base}/2010-04-01/Accounts/{account}"
        user, password = _login(config, account)
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"authorization": f"Basic {encoded}", "accept": "application/json"}
        self._form_headers = {**self._headers, "content-type": "application/x-www-form-urlencoded"}
        self._url = f"{self._account}/Messages.json"
        self._secrets.append(encoded)

    async def send(self, message: Sms) -> Outcome:
        """Send one message; every failure of the provider is an Outcome."""
        try:
            answer = await self._exchanges.make(await self._request(message))
        except ExchangeError as error:
            return error.outcome
        outcome = self._judged(answer)
        if outcome.verdict is Verdict.ACCEPTED:
            return Outcome(Verdict.ACCEPTED, f"segments: {message.segments}", outcome.provider_message_id)
        reason = hide(outcome.reason, self._secrets)
        if message.sender and _code(answer) in _SENDER:
            return Outcome(Verdict.PERMANENT, reason, reject=RejectReason.INVALID)
        return replace(outcome, reason=reason)

    async def _request(self, message: Sms) -> HttpRequest:
        fields = {"To": message.recipient, "Body": message.text}
        if message.sender:
            fields["From"] = message.sender
        elif self._service:
            fields["MessagingServiceSid"] = self._service
        else:
            fields["From"] = self.sender or ""
        return HttpRequest(self._url, self._form_headers, urlencode(fields).encode())

    def _judged(self, answer: Answer) -> Outcome:
        fields, said = answer.fields(), f"{answer.status} {self._said(answer)}".strip()
        if not answer.is_success:
            known = _by_code(answer, said) if answer.status in _REFUSED else None
            return known or common_outcome(answer, self._said(answer)) or Outcome(Verdict.PROVIDER, said)
        sid, status = fields.get("sid"), fields.get("status")
        if not isinstance(sid, str) or not sid:
            return Outcome(Verdict.UNKNOWN, f"{answer.status} without a sid")
        if status not in (_FAILED, *_UNDELIVERED):
            return Outcome(Verdict.ACCEPTED, provider_message_id=sid)
        known = _by_code(answer, said)
        if known is None and status == _FAILED and _code(answer):
            return Outcome(Verdict.PROVIDER, said)
        return known or Outcome(Verdict.PERMANENT, said, reject=RejectReason.OTHER)

    async def _check(self) -> HttpRequest:
        return HttpRequest(f"{self._account}.json", self._headers, method="GET")

    def _checked(self, answer: Answer) -> Outcome:
        status = answer.fields().get("status")
        if answer.is_success and status != "active":
            return Outcome(Verdict.PROVIDER, f"the account is {status}, not active")
        return super()._checked(answer)

    def _said(self, answer: Answer) -> str:
        fields, code = answer.fields(), _code(answer)
        text = fields.get("error_message") if answer.is_success else fields.get("message")
        return f"code {code}: {text}" if code else ""


def _by_code(answer: Answer, said: str) -> Outcome | None:
    """Return what the code of an answer means, None if it is not listed here."""
    code = _code(answer)
    if code in _REJECTED:
        return Outcome(Verdict.PERMANENT, said, reject=_REJECTED[code])
    if code in _LIMITED:
        stated, is_daily = answer.retry_after(clock.now()), code == _DAY_LIMIT
        wait = _DAY_LIMIT_SECONDS if stated is None and is_daily else stated
        return Outcome(Verdict.RATE_LIMITED, said, retry_after=wait, is_daily=is_daily)
    if code == _TOO_OFTEN:
        return Outcome(Verdict.TEMPORARY, said)
    if code == _NOBODY_KNOWS:
        return Outcome(Verdict.UNKNOWN, said)
    return None


def _code(answer: Answer) -> int:
    """Return the code of an error, or of a message that was taken and has failed; 0 if there is none."""
    code = answer.fields().get("error_code" if answer.is_success else "code")
    return code if isinstance(code, int) else 0


def _sender(config: ProviderConfig) -> str | None:
    number = config.text("fromNumber")
    try:
        return sender_of(number) if number else None
    except WritingError as error:
        raise ProviderError(f"{config.name}: fromNumber: {error}") from None


def _matching(config: ProviderConfig, name: str, value: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(value):
        raise ProviderError(f"{config.name}: {name} is not like {pattern.pattern}")
    return value


def _login(config: ProviderConfig, account: str) -> tuple[str, str]:
    """Return user and password: an API key if there is one, or else the account's own."""
    if config.text("apiKeySid") or config.text("apiKeySecret"):
        return config.required("apiKeySid"), config.required("apiKeySecret")
    return account, config.required("authToken")
