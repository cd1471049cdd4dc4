"""Organizations in which everything can go wrong, and what must not be seen of it."""

import json
from itertools import islice
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from mauntic_jobs.delivery.sending.providers.config import encrypt
from tests.delivery import fake_fcm, fake_twilio
from tests.delivery.canaries import Canary, names, secret
from tests.delivery.echo import GRANTED, Echo
from tests.delivery.sink import Sink
from tests.delivery.world import World

_KEY = "0123456789abcdef" * 3 + "c0ffee15decade99"
FAULTS = ("accept", "fault", "malformed", "elsewhere", "reset", "cut", "login", "limit", "unavailable")
_TEXT = "Dear {{name}}, fate-%s: your appointment is at 14 Elm Street, and the code of the door is 4711."
SMTP = ("smtp-plain", "smtp-auth", "smtp-short")

KEPT = {
    "smtp-plain": secret("smtpplain"),
    "smtp-auth": secret("smtpauth"),
    "smtp-short": Canary("pw7#xZ", "pw7#xZ"),
    "ses-id": secret("sesid", "AKIA{}"),
    "ses-secret": secret("sessecret"),
    "ses-session": secret("sessession"),
    "sendgrid": secret("sendgrid"),
    "postmark": secret("postmark"),
    "twilio-token": secret("twiliotoken"),
    "twilio-api": secret("twilioapi"),
    "slack": secret("slack", "T0{}"),
    "webhook": secret("webhookurl", "hook-{}"),
    "webhook-secret": secret("webhooksecret"),
    "smtp-alert": secret("smtpalert", "{}pw"),
    "apprise": secret("apprise", "tok{}"),
    "sentry": secret("sentry", "{}dsn"),
    "heartbeat": secret("heartbeat", "check-{}"),
    "unsealed": secret("unsealed"),
    "no-header": secret("noheader", "é{}"),
    "no-json": secret("nojson"),
    "grant": Canary(GRANTED, GRANTED),
    "fcm": Canary(fake_fcm.account_key(), json.loads(fake_fcm.account_key())["private_key"].splitlines()[5]),
    "encryption": Canary(_KEY, _KEY),
}


def whole_of(name: str) -> str:
    return KEPT[name].whole


_CONFIGS: dict[str, dict[str, Any]] = {
    "postmark": {"serverToken": whole_of("postmark")},
    "sendgrid": {"apiKey": whole_of("sendgrid")},
    "ses": {
        "region": "eu-west-1",
        "accessKeyId": whole_of("ses-id"),
        "secretAccessKey": whole_of("ses-secret"),
        "sessionToken": whole_of("ses-session"),
    },
    "twilio": {**fake_twilio.CONFIG, "authToken": whole_of("twilio-token")},
    "fcm": fake_fcm.config(),
}
CHANNEL_OF = {"twilio": "sms", "fcm": "push"}
_ALERTS = [
    {"type": "slack", "url": f"https://127.0.0.1:1/services/{whole_of('slack')}"},
    {"type": "webhook", "url": f"https://127.0.0.1:1/{whole_of('webhook')}", "secret": whole_of("webhook-secret")},
    {
        "type": "smtp",
        "url": f"smtp://ops:{whole_of('smtp-alert')}@127.0.0.1:1",
        "from": "jobs@acme.test",
        "to": ["ops@acme.test"],
    },
    {"type": "apprise", "url": f"tgram://{whole_of('apprise')}/chat"},
]


class Flock:
    """A world of organizations in which everything can go wrong, and what must not be seen of it."""

    def __init__(self, world: World, echo: Echo, sink: Sink, recipients: dict[str, list[Canary]]) -> None:
        self.world = world
        self.echo = echo
        self.sink = sink
        self.recipients = recipients
        self.names = names(sum(map(len, recipients.values())))
        self.ids: list[str] = []
        self._logins: dict[str, str] = {}
        self._login = SMTP[0]
        self._left = {channel: iter(found) for channel, found in recipients.items()}
        urls = (world.settings.database_url, world.settings.redis_url)
        passwords = [urlsplit(url.get_secret_value()).password for url in urls if url]
        self.secrets = [*KEPT.values(), *(Canary(each, each) for each in passwords if each)]

    @property
    def settings(self) -> dict[str, str]:
        """What the program is told beside the world's own settings."""
        return {
            "ENCRYPTION_KEY": _KEY,
            "MAUNTIC_ALERTS": json.dumps(_ALERTS),
            "MAUNTIC_ALERT_TIMEOUT": "1s",
            "MAUNTIC_SENTRY_DSN": f"https://{whole_of('sentry')}@127.0.0.1:1/1",
            "MAUNTIC_JOBS": json.dumps(
                {"aggregate-hourly": {"heartbeat_url": f"https://127.0.0.1:1/{whole_of('heartbeat')}"}}
            ),
            "MAUNTICCHANNEL_OF": json.dumps({name: {"retry_delay": "0s"} for name in ("email", "sms", "push")}),
            "MAUNTIC_PROVIDER_URLS": json.dumps(self.world.settings.provider_urls),
            "PYTHONASYNCIODEBUG": "1",
        }

    @property
    def everything(self) -> list[Canary]:
        return [*self.secrets, *self.names, *(each for found in self.recipients.values() for each in found)]

    def refusal(self, text: str) -> str:
        """Return what an SMTP server says that repeats a message and the login of who sends it."""
        return f"550 5.1.1 {self.echo.said(self._logins.get(self.echo.whom(text), self._login), text)}"

    def smtp(self, name: str) -> None:
        """Begin an organization that sends by SMTP, with a login in one of the forms there are."""
        self.organization()
        self._login = name
        login: dict[str, Any] = {"username": "zoe", "password": whole_of(name)}
        if name == "smtp-auth":
            login = {"auth": {"user": "zoe", "pass": whole_of(name)}}
        self.world.provider(self.sink.host, self.sink.port, **login)

    def organization(self, *kinds: str, sealed: bool = False) -> None:
        """Begin another organization, with providers of these kinds."""
        self.world.organization = uuid4()
        for priority, kind in enumerate(kinds):
            config = {"from": "Acme <news@acme.test>", **_CONFIGS[kind]}
            stored: Any = encrypt(config, _KEY) if sealed else config
            self.world.provider_of(CHANNEL_OF.get(kind, "email"), kind, stored, priority=priority)

    def send(self, channel: str, count: int, fate: str, fields: dict[str, Any] | None = None) -> None:
        """Queue messages to recipients that have had none."""
        self.world.channel = channel
        field = {"email": "emailAddress", "sms": "phoneNumber", "push": "deviceToken"}[channel]
        messages = []
        for canary in islice(self._left[channel], count):
            number = len(self.ids)
            self._logins[canary.whole] = self._login
            self.ids.append(self.world.key(f"d{number}"))
            data = {"name": self.names[number].whole}
            own = {field: canary.whole, "templateData": data, "data": data} | {"body": _TEXT % fate, "html": ...}
            messages.append(self.world.message(f"d{number}", **{**own, **(fields or {})}))
        self.world.add(*messages)
