"""Amazon SES: SendEmail of API v2, which takes the email as it is built here.

Sources: docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html, .../dg/troubleshoot-error-messages.html and
.../dg/manage-sending-quotas-errors.html.

It has no idempotency keys. SES replaces the Message-ID by <MessageId@REGION.amazonses.com>; events carry the MessageId
of the answer, and the tags.
"""

import re
from base64 import b64encode
from collections.abc import Mapping

from mauntic_jobs.delivery.render.mime import Email, build
from mauntic_jobs.delivery.render.renderer import ContentError
from mauntic_jobs.delivery.sending.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.account import Account
from mauntic_jobs.delivery.sending.providers.aws_signature import AwsKey, signed_headers
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError, hide
from mauntic_jobs.delivery.sending.providers.http import (
    Answer,
    ExchangeError,
    HttpClient,
    HttpRequest,
    accepted,
    common_outcome,
    json_body,
)
from mauntic_jobs.delivery.sending.providers.http_adapter import HttpProvider
from mauntic_jobs.delivery.sending.providers.rate_limit import positive_number
from mauntic_jobs.timekeeping import clock

API = "https://email.{region}.amazonaws.com"

# The region becomes part of a host's name, which is not the tenant's to choose.
_REGION = re.compile(r"[a-z]{2}(-[a-z]{2,12}){1,2}-[1-9]")
_LONGEST_TAG = 256
_UNFIT_FOR_TAGS = re.compile(r"[^A-Za-z0-9-]")

_LIMITED = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling", "LimitExceededException"})
# The quota of any 24 hours comes back bit by bit.
_QUOTA_USED_UP, _QUOTA_SECONDS = re.compile(r"daily (?:message|sending) quota exceeded", re.IGNORECASE), 3600.0
_UNVERIFIED = "Email address is not verified"
# By the name of the error. Whatever else there is is about the account, and another provider may do:
# MailFromDomainNotVerifiedException, AccountSuspendedException, SendingPausedException, NotFoundException (of the
# configuration set), AccessDeniedException, UnrecognizedClientException, InvalidSignatureException, of which a wrong
# clock is a cause, ExpiredTokenException.
_REJECTED = {
    "MessageRejected": RejectReason.OTHER,  # its content is not allowed
    "BadRequestException": RejectReason.INVALID,  # an address or a header
}


class SesProvider(HttpProvider[Email]):
    """Sends emails as MIME, with static credentials. `base` may name {region}."""

    def __init__(self, config: ProviderConfig, client: HttpClient, base: str = API) -> None:
        region = config.required("region")
        if not _REGION.fullmatch(region):
            raise ProviderError(f"{config.name}: its region is not like eu-west-1")
        super().__init__(config, client, base.replace("{region}", region))
        token = config.required("sessionToken") if config.text("sessionToken") else None
        self._key = AwsKey(config.required("accessKeyId"), config.required("secretAccessKey"), token)
        self._scope = (region, "ses")
        self._configuration_set = config.text("configurationSet")

    async def _request(self, message: Email) -> HttpRequest:
        mime = build(message, eight_bit=False)
        if mime.needs_smtputf8:
            raise ContentError("SES takes only addresses whose part before the @ is ASCII")
        fields: dict[str, object] = {
            "FromEmailAddress": message.sender.spec,
            "Destination": {"ToAddresses": [message.recipient.spec]},
            "Content": {"Raw": {"Data": b64encode(mime.content).decode("ascii")}},
            "EmailTags": [
                {"Name": name, "Value": tag}
                for name, value in message.tags.items()
                if len(tag := tag_of(value)) <= _LONGEST_TAG
            ],
        }
        if self._configuration_set:
            fields["ConfigurationSetName"] = self._configuration_set
        return self._signed("POST", "/v2/email/outbound-emails", json_body(fields))

    def _judged(self, answer: Answer) -> Outcome:
        if answer.is_success:
            return accepted(answer, answer.fields().get("MessageId"))
        said, name = self._said(answer), _name(answer)
        if name in _LIMITED:
            wait, is_daily = answer.retry_after(clock.now()), _QUOTA_USED_UP.search(said) is not None
            if wait is None and is_daily:
                wait = _QUOTA_SECONDS
            return Outcome(Verdict.RATE_LIMITED, f"{answer.status} {said}", retry_after=wait, is_daily=is_daily)
        common = common_outcome(answer, said)
        if common is not None:
            return common
        reject = None if _UNVERIFIED in said else _REJECTED.get(name)
        verdict = Verdict.PERMANENT if reject else Verdict.PROVIDER
        return Outcome(verdict, f"{answer.status} {said}".strip(), reject=reject)

    async def account(self) -> Account | None:
        """Return what the account may send, None where the key may not ask. Raises ExchangeError."""
        answer = await self._exchanges.make(await self._check())
        if _name(answer) == "AccessDeniedException":
            return None
        if not answer.is_success:
            raise ExchangeError(Verdict.PROVIDER, hide(f"{answer.status} {self._said(answer)}", self._secrets))
        return account_of(answer.fields())

    async def _check(self) -> HttpRequest:
        return self._signed("GET", "/v2/email/account", b"")

    def _checked(self, answer: Answer) -> Outcome:
        fields = answer.fields()
        if _name(answer) == "AccessDeniedException":
            # A key that may send and nothing else is a good one.
            return Outcome(Verdict.ACCEPTED, "the key is right, and may not see the account (ses:GetAccount)")
        if answer.is_success and fields.get("SendingEnabled") is False:
            return Outcome(Verdict.PROVIDER, "the account may not send at present: its sending is paused")
        if answer.is_success and fields.get("ProductionAccessEnabled") is False:
            return Outcome(Verdict.ACCEPTED, "the account is in the sandbox, and reaches only verified addresses")
        return super()._checked(answer)

    def _said(self, answer: Answer) -> str:
        fields = answer.fields()
        message = fields.get("message") or fields.get("Message") or ""
        return f"{_name(answer)}: {message}" if message else _name(answer)

    def _signed(self, method: str, path: str, content: bytes) -> HttpRequest:
        url, headers = f"{self._base}{path}", {"content-type": "application/json"}
        signed = signed_headers(self._key, self._scope, method, url, headers, content, clock.now())
        return HttpRequest(url, signed, content, method)


def account_of(fields: Mapping[str, object]) -> Account:
    """Return what an answer of GetAccount says. It has -1 for a quota that is not limited."""
    given = fields.get("SendQuota")
    quota: Mapping[str, object] = given if isinstance(given, dict) else {}
    daily, sent = (positive_number(quota.get(name)) for name in ("Max24HourSend", "SentLast24Hours"))
    standing = str(fields.get("EnforcementStatus") or "HEALTHY")
    return Account(
        positive_number(quota.get("MaxSendRate")),
        None if daily is None else int(daily),
        int(sent or 0),
        "" if standing == "HEALTHY" else standing,
    )


def tag_of(text: str) -> str:
    """Return a text as a tag's value: what is neither a letter nor a digit nor a dash is _XX for each of its bytes."""
    return _UNFIT_FOR_TAGS.sub(lambda found: "".join(f"_{byte:02X}" for byte in found[0].encode()), text)


def _name(answer: Answer) -> str:
    """Return the name of an error, from the header or the body, without what may stand around it."""
    fields = answer.fields()
    name = answer.headers.get("x-amzn-errortype") or fields.get("__type") or fields.get("code") or ""
    return str(name).partition(":")[0].rpartition("#")[2]
