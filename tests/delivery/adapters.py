"""The email providers over HTTP as tests meet them: how each is configured, and how it says what."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from mauntic_jobs.delivery.addresses import parse_address
from mauntic_jobs.delivery.render.mime import Email
from mauntic_jobs.delivery.sending import failover as sending
from mauntic_jobs.delivery.sending.outcome import Outcome
from mauntic_jobs.delivery.sending.providers.base import AnyProvider
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig
from mauntic_jobs.delivery.sending.providers.http import HttpClient
from mauntic_jobs.delivery.sending.providers.registry import factories
from mauntic_jobs.settings.settings import Settings
from tests.delivery.fake_api import Reply, Taken
from tests.delivery.world import World
from tests.support import run_on_loop

EMAIL = Email(
    sender=parse_address("News <news@acme.test>"),
    recipient=parse_address("ann@example.com"),
    subject="Hello",
    message_id="<1@acme.test>",
    date=datetime(2026, 10, 1, 12, tzinfo=UTC),
    html="<p>Hello</p>\n",
    text="Hello\n",
    tags={"deliveryId": "d-1", "organizationId": "8d1f0bb2-7f3c-4d36-8f52-2f1b6f1b6a3f"},
)


@dataclass(frozen=True)
class Kind:
    """A type of provider, and its words on the wire."""

    name: str
    config: Mapping[str, Any]
    secrets: tuple[str, ...]
    accepted: Callable[[str], Reply]
    said: Callable[[str], Any]  # the body of an error with this text
    invalid: Reply  # the recipient's address is wrong
    delivery: Callable[[Taken], str]
    message_id: Callable[[Taken], str]


def _postmark_header(taken: Taken, name: str) -> str:
    (value,) = [each["Value"] for each in taken.fields()["Headers"] if each["Name"] == name]
    return str(value)


def tags(taken: Taken) -> dict[str, str]:
    """Return the tags in a request to SES."""
    return {each["Name"]: each["Value"] for each in taken.fields()["EmailTags"]}


POSTMARK = Kind(
    "postmark",
    {"serverToken": "canary-server-token"},
    ("canary-server-token",),
    lambda name: Reply(body={"ErrorCode": 0, "MessageID": name, "To": "ann@example.com", "Message": "OK"}),
    lambda text: {"ErrorCode": 10, "Message": text},
    Reply(422, {"ErrorCode": 300, "Message": "Error parsing 'To': Illegal email address."}),
    lambda taken: str(taken.fields()["Metadata"]["deliveryId"]),
    lambda taken: _postmark_header(taken, "Message-ID"),
)
SENDGRID = Kind(
    "sendgrid",
    {"apiKey": "SG.canary.key"},
    ("SG.canary.key",),
    lambda name: Reply(202, headers={"X-Message-Id": name}),
    lambda text: {"errors": [{"field": None, "message": text, "help": None}]},
    Reply(
        400, {"errors": [{"field": "personalizations.0.to.0.email", "message": "Does not contain a valid address."}]}
    ),
    lambda taken: str(taken.fields()["custom_args"]["deliveryId"]),
    lambda taken: str(taken.fields()["headers"]["Message-ID"]),
)
SES = Kind(
    "ses",
    {"region": "eu-west-1", "accessKeyId": "CANARYKEYID", "secretAccessKey": "canary/key", "sessionToken": "canary=="},
    ("CANARYKEYID", "canary/key", "canary=="),
    lambda name: Reply(body={"MessageId": name}),
    lambda text: {"message": text},
    Reply(400, {"message": "Missing final '@domain'"}, {"x-amzn-errortype": "BadRequestException"}),
    lambda taken: tags(taken)["deliveryId"].replace("_2E", "."),
    lambda taken: mime_of(taken)["message-id"],
)
KINDS = (POSTMARK, SENDGRID, SES)


def mime_of(taken: Taken) -> Any:
    """Return the email in a request to SES."""
    from base64 import b64decode
    from email import message_from_bytes, policy

    data = b64decode(taken.fields()["Content"]["Raw"]["Data"], validate=True)
    message = message_from_bytes(data, policy=policy.default)
    assert not message.defects
    return message


def changed(**fields: Any) -> Email:
    return EMAIL._replace(**fields)


def made(kind: Kind, url: str, client: HttpClient, **config: Any) -> AnyProvider:
    """Return a provider whose API is at the URL. Raises ProviderError."""
    factory = factories(Settings(provider_urls={kind.name: url}), client)["email", kind.name]
    return factory(ProviderConfig(UUID(int=1), kind.name, {**kind.config, **config}))


def sent(kind: Kind, url: str, *emails: Email, timeout: float = 5, **config: Any) -> list[Outcome]:
    """Send emails one after the other, as the pipeline does."""

    async def run() -> list[Outcome]:
        client = HttpClient(timeout=timeout)
        provider = made(kind, url, client, **config)
        outcomes = [await sending._outcome(provider, each) for each in emails or (EMAIL,)]
        await client.close()
        return outcomes

    return run_on_loop(run())


def checked(kind: Kind, url: str, **config: Any) -> Outcome:
    """Check a provider."""

    async def run() -> Outcome:
        client = HttpClient(timeout=5)
        outcome = await made(kind, url, client, **config).check()
        await client.close()
        return outcome

    return run_on_loop(run())


def add(world: World, kind: Kind, url: str, *, priority: int = 0) -> UUID:
    """Give an organization a provider whose API is at the URL."""
    provider = uuid4()
    world.write(
        "INSERT INTO delivery.provider_configs (id, organization_id, channel, provider_type, config, priority)"
        " VALUES (%(id)s, %(organization)s, 'email', %(kind)s, %(config)s::jsonb, %(priority)s)",
        id=provider,
        kind=kind.name,
        config=json.dumps({**kind.config, "from": "Acme <news@acme.test>"}),
        priority=priority,
    )
    urls = {**world.settings.provider_urls, kind.name: url}
    world.settings = world.settings.model_copy(update={"provider_urls": urls})
    return provider
