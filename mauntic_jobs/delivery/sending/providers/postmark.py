"""Postmark: POST /email. Source: postmarkapp.com/developer/api/email-api and .../developer/api/overview#error-codes.

It has no idempotency keys. The Message-ID stays ours (X-PM-KeepID), and `Metadata` comes back with every event: at most
ten fields, names of 20 characters and values of 80 (postmarkapp.com/support/article/1125-custom-metadata-faq).
"""

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

API = "https://api.postmarkapp.com"

_LONGEST_METADATA = 80
_TOO_LARGE = 413
# By ErrorCode. Whatever else there is is about the server, the account or the sender, and another provider may do:
# 10 no such token, 100 maintenance, 400 and 401 an unknown or unconfirmed sender, 402, 403 and 409 a request that is
# not understood, 405 no credits, 412 an account on trial, 413 an account that may not send, 12xx no such stream.
_REJECTED = {
    300: RejectReason.INVALID,  # an address, a header, the content or the metadata
    406: RejectReason.BOUNCED,  # the recipient is inactive: it bounced, complained or was deactivated
}


class PostmarkProvider(HttpProvider[Email]):
    """Sends emails as JSON; the server's token decides which server it is."""

    def __init__(self, config: ProviderConfig, client: HttpClient, base: str = API) -> None:
        super().__init__(config, client, base)
        token = config.required("serverToken")
        self._stream = config.text("messageStream")
        self._url = f"{self._base}/email"
        self._headers = {
            "x-postmark-server-token": token,
            "accept": "application/json",
            "content-type": "application/json",
        }

    async def _request(self, message: Email) -> HttpRequest:
        fields: dict[str, object] = {
            "From": one_line(str(message.sender)),
            "To": message.recipient.spec,
            "ReplyTo": one_line(str(message.reply_to)) if message.reply_to else None,
            "Subject": one_line(message.subject),
            "HtmlBody": message.html,
            "TextBody": message.text,
            "MessageStream": self._stream,
            "Metadata": {name: value for name, value in message.tags.items() if len(value) <= _LONGEST_METADATA},
            "Headers": [
                *({"Name": name, "Value": value} for name, value in headers_of(message)),
                {"Name": "Message-ID", "Value": message.message_id},
                {"Name": "X-PM-KeepID", "Value": "true"},
            ],
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return HttpRequest(self._url, self._headers, json_body(given))

    def _judged(self, answer: Answer) -> Outcome:
        fields = answer.fields()
        if answer.is_success:
            return accepted(answer, fields.get("MessageID") if fields.get("ErrorCode") == 0 else None)
        said = self._said(answer)
        common = common_outcome(answer, said)
        if common is not None:
            return common
        reason = f"{answer.status} {said}".strip()
        if answer.status == _TOO_LARGE:
            return Outcome(Verdict.PERMANENT, reason, reject=RejectReason.OTHER)
        code = fields.get("ErrorCode")
        reject = _REJECTED.get(code) if isinstance(code, int) else None
        return Outcome(Verdict.PERMANENT if reject else Verdict.PROVIDER, reason, reject=reject)

    async def _check(self) -> HttpRequest:
        return HttpRequest(f"{self._base}/server", self._headers, method="GET")

    def _checked(self, answer: Answer) -> Outcome:
        if answer.is_success and answer.fields().get("DeliveryType") == "Sandbox":
            return Outcome(Verdict.ACCEPTED, "it is a sandbox server, which delivers nothing")
        return super()._checked(answer)

    def _said(self, answer: Answer) -> str:
        fields = answer.fields()
        return f"ErrorCode {fields.get('ErrorCode')}: {fields.get('Message', '')}" if fields else ""
