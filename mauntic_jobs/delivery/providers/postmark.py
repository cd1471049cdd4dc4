"""Postmark: POST /email. Source: postmarkapp.com/developer/api/email-api and .../overview#error-codes.

It has no idempotency keys. The Message-ID is kept as ours (X-PM-KeepID), and `Metadata` comes back with every event.
"""

import json
from typing import Any

from mauntic_jobs.delivery.mime import Email, headers_of
from mauntic_jobs.delivery.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.providers.config import ProviderConfig
from mauntic_jobs.delivery.providers.http import Answer, HttpClient, Request, common_outcome
from mauntic_jobs.delivery.providers.http_provider import HttpProvider

API = "https://api.postmarkapp.com"

# By ErrorCode. What is not listed is about the server, the account or the sender: another provider may do.
_REJECTED = {
    300: RejectReason.INVALID,  # invalid email request: an address, a header, a size
    406: RejectReason.BOUNCED,  # the recipient is inactive: it bounced, complained or was deactivated
}


class PostmarkProvider(HttpProvider):
    """Sends emails as JSON; the server's token decides which server it is."""

    def __init__(self, config: ProviderConfig, client: HttpClient, base: str = API) -> None:
        super().__init__(config, client, base)
        token = config.required("serverToken")
        self._headers = {
            "x-postmark-server-token": token,
            "accept": "application/json",
            "content-type": "application/json",
        }

    async def _request(self, message: Email) -> Request:
        fields: dict[str, Any] = {
            "From": str(message.sender),
            "To": message.recipient.spec,
            "Subject": message.subject,
            "HtmlBody": message.html,
            "TextBody": message.text,
            "ReplyTo": str(message.reply_to) if message.reply_to else None,
            "Metadata": message.tags,
            "Headers": [
                *({"Name": name, "Value": value} for name, value in headers_of(message)),
                {"Name": "Message-ID", "Value": message.message_id},
                {"Name": "X-PM-KeepID", "Value": "true"},
            ],
        }
        content = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
        return Request(f"{self._base}/email", self._headers, content)

    def _judged(self, answer: Answer) -> Outcome:
        fields = answer.fields()
        if answer.is_success:
            if fields.get("ErrorCode") == 0 and isinstance(fields.get("MessageID"), str):
                return Outcome(Verdict.ACCEPTED, provider_message_id=fields["MessageID"])
            return Outcome(Verdict.UNKNOWN, f"{answer.status} without a MessageID")
        said = self._said(answer)
        common = common_outcome(answer, said)
        if common is not None:
            return common
        reject = _REJECTED.get(fields.get("ErrorCode", -1))
        if reject is not None:
            return Outcome(Verdict.PERMANENT, f"{answer.status} {said}", reject=reject)
        return Outcome(Verdict.PROVIDER, f"{answer.status} {said}")

    async def _check(self) -> Request:
        return Request(f"{self._base}/server", self._headers, method="GET")

    def _said(self, answer: Answer) -> str:
        fields = answer.fields()
        return f"ErrorCode {fields.get('ErrorCode')}: {fields.get('Message', '')}" if fields else ""
