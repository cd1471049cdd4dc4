"""Trial of providers: their credentials, and a test message."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from mauntic_jobs.delivery.addresses import parse_address
from mauntic_jobs.delivery.render.mime import Email, message_id
from mauntic_jobs.delivery.render.push import Push
from mauntic_jobs.delivery.render.renderer import ContentError
from mauntic_jobs.delivery.render.sms import Sms, e164
from mauntic_jobs.delivery.sending.failover import clean
from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.delivery.sending.providers.base import AnyProvider
from mauntic_jobs.delivery.sending.providers.config import ProviderError, hide
from mauntic_jobs.delivery.sending.providers.http import HttpClient
from mauntic_jobs.delivery.sending.providers.registry import Factory, factories
from mauntic_jobs.errors import JobFailedError, UsageError
from mauntic_jobs.ops.providers.list import ConfiguredProvider
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock

_AT_ONCE = 10
_SUBJECT = "A test of mauntic-jobs"
_TEXT = "This message was sent to see that messages can be sent."


@dataclass(frozen=True)
class ProviderTrial:
    """What came of trying a provider. `problem` is None if it works; `sent`: a message was accepted by it.

    `asked` says what else was asked than to log in.
    """

    provider: ConfiguredProvider
    problem: str | None
    sent: bool
    seconds: float
    asked: str = ""


def channel_of(address: str) -> str:
    """Return which channel an address is of: one with an @ is of email, one that begins with + of SMS, others of push.

    Raises UsageError if it is none of that channel's.
    """
    try:
        if "@" in address:
            parse_address(address)
            return "email"
        if address.startswith("+"):
            e164(address)
            return "sms"
    except JobFailedError as error:
        raise UsageError(f"Nothing can be sent there: {error}.") from None
    return "push"


async def check_providers(
    settings: Settings, providers: Sequence[ConfiguredProvider], address: str | None = None
) -> list[ProviderTrial]:
    """Log in at each of the providers, and send a message by those of the address's channel, if there is an address."""
    client = HttpClient(timeout=settings.send_timeout.total_seconds())
    made, gate = factories(settings, client), asyncio.Semaphore(_AT_ONCE)
    channel = channel_of(address) if address else None

    async def check(configured: ConfiguredProvider) -> ProviderTrial:
        async with gate:
            began = time.monotonic()
            wanted = address if configured.channel == channel else None
            problem, asked = configured.problem, ""
            if problem is None:
                problem, asked = await _tried(configured, made.get((configured.channel, configured.type)), wanted)
            sent = problem is None and wanted is not None
            return ProviderTrial(configured, problem, sent, time.monotonic() - began, asked)

    try:
        return await asyncio.gather(*(check(each) for each in providers))
    finally:
        await client.close()


async def _tried(
    configured: ConfiguredProvider, factory: Factory | None, address: str | None
) -> tuple[str | None, str]:
    """Return what is wrong with a provider, or None, and what it was asked."""
    if configured.config is None or factory is None:
        return f"{configured.type} is not supported for {configured.channel}", ""
    try:
        provider = factory(configured.config)
    except ProviderError as error:
        return str(error).removeprefix(f"{configured.config.name}: "), ""
    try:
        outcome = await (provider.send(_message(configured, provider, address)) if address else provider.check())
    except JobFailedError as error:
        return str(error), ""
    finally:
        await provider.close()
    outcome = replace(outcome, reason=clean(hide(outcome.reason, configured.config.secrets)))
    return (None, outcome.reason) if outcome.verdict is Verdict.ACCEPTED else (_said(outcome), "")


def _said(outcome: Outcome) -> str:
    kind = {
        Verdict.UNKNOWN: "it is unknown whether it was sent",
        Verdict.RATE_LIMITED: "it wants to be asked later",
        Verdict.DEFERRED: "it wants to be asked later",
    }
    return f"{kind.get(outcome.verdict, 'refused')}: {outcome.reason}"


def _message(configured: ConfiguredProvider, provider: AnyProvider, address: str) -> object:
    """Return a message of the provider's channel to an address. Raises ContentError."""
    key, tags = f"check-{uuid4().hex}", {"organizationId": str(configured.organization)}
    match configured.channel:
        case "email":
            if provider.sender is None:
                raise ContentError("it has no `from`, which a test message needs")
            sender, recipient = parse_address(provider.sender), parse_address(address)
            name = message_id(key, configured.organization, sender.domain)
            return Email(sender, recipient, _SUBJECT, name, clock.now(), text=_TEXT, tags={"deliveryId": key, **tags})
        case "sms":
            return Sms(e164(address), _TEXT, provider.sender, {"deliveryId": key, **tags})
        case _:
            return Push(address, _SUBJECT, _TEXT, key[:32], tags={"deliveryId": key, **tags})
