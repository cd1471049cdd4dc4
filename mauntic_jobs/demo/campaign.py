"""The demo's campaign on three channels: its messages on the platform's queues, and what it needs besides."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.demo.fakes import Fakes
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping.epoch import milliseconds

RECIPIENTS: Mapping[str, int] = {"email": 400, "sms": 60, "push": 200}
_ADDRESSES = {"email": "emailAddress", "sms": "phoneNumber", "push": "deviceToken"}
_HTML = (
    "<h1>Hello {{name}}</h1>{{#if plan}}<p>You are on {{plan}}.</p>{{/if}}"
    '<p><a href="{{unsubscribeUrl}}">No more of these</a></p>'
)
_TEXTS = {
    "email": "Hello {{name}}",
    "sms": "Hello {{name}}: we are open again.",
    "push": "We are open again, {{name}}.",
}

_sql = statements("demo_campaign")


@dataclass(frozen=True)
class _Recipient:
    number: int
    contact: UUID

    def address(self, channel: str) -> str:
        """Return where it is reached; there is no mailbox at the second address."""
        match channel:
            case "email":
                return "gone@example.com" if self.number == 1 else f"contact-{str(self.contact)[:8]}@example.com"
            case "sms":
                return f"+1202555{100 + self.number:04d}"
            case _:
                return f"device-{self.contact.hex}"


def add_campaign(session: Session, settings: Settings, organization: UUID, fakes: Fakes, now: datetime) -> int:
    """Give an organization providers, and put a campaign on the queues; return how many jobs there are.

    The first email address is suppressed, and the last message of each channel is on the queue twice.
    """
    jobs: list[QueueJob] = []
    with session.transaction(Limits()):
        for channel, (kind, config) in _providers(fakes).items():
            values = {"organization": organization, "channel": channel, "type": kind, "config": json.dumps(config)}
            session.execute(_sql["provider"], values)
        for channel, count in RECIPIENTS.items():
            jobs += _campaign(session, organization, channel, count)
    with closing(open_redis(settings)) as redis:
        add_jobs(redis, settings.queue_prefix, jobs, milliseconds(now))
    return len(jobs)


def _campaign(session: Session, organization: UUID, channel: str, count: int) -> Iterator[QueueJob]:
    own = {"organization": organization, "channel": channel}
    texts = {"subject": "News for {{name}}", "html": _HTML if channel == "email" else None, "text": _TEXTS[channel]}
    template = session.row(_sql["template"], {**own, **texts})["id"]
    rows = session.rows(_sql["recipients"], {"organization": organization, "limit": count})
    recipients = [_Recipient(number, row["contact_id"]) for number, row in enumerate(rows)]
    job = session.row(_sql["job"], {**own, "recipients": len(recipients)})["id"]
    if channel == "email":
        session.execute(_sql["suppress"], {"organization": organization, "address": recipients[0].address(channel)})
    queue = CHANNELS[channel].queue
    for place, recipient in enumerate([*recipients, recipients[-1]]):
        message = {
            "deliveryId": f"{job}-{recipient.number}",
            "organizationId": str(organization),
            "jobId": str(job),
            "contactId": str(recipient.contact),
            "templateId": str(template),
            _ADDRESSES[channel]: recipient.address(channel),
            "templateData": {"name": f"Contact {recipient.number}", "plan": "team" if recipient.number % 3 else None},
            "unsubscribeUrl": f"https://news.example.com/unsubscribe/{recipient.number}",
        }
        yield QueueJob(queue, f"{job}-{place}", queue.rpartition(":")[2], message)


def _providers(fakes: Fakes) -> Mapping[str, tuple[str, Mapping[str, object]]]:
    """Return the kind and the configuration of each channel's provider."""
    return {
        "email": ("custom_smtp", {"host": fakes.host, "port": fakes.smtp_port, "from": "News <news@example.com>"}),
        "sms": ("twilio", {"accountSid": f"AC{0:032x}", "authToken": "demo", "fromNumber": "+12025550199"}),
        "push": ("fcm", {"projectId": "demo-project", "serviceAccountKey": json.dumps(service_account())}),
    }


def service_account() -> Mapping[str, str]:
    """Return the key of an account that only the demo's own server knows."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": "demo-project",
        "private_key_id": "demo",
        "private_key": private,
        "client_email": "demo@demo-project.example.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
