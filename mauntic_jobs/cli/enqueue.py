"""`enqueue`: test messages, as a campaign sends them."""

from contextlib import closing
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer

from mauntic_jobs.cli.framework.command import command, root
from mauntic_jobs.cli.framework.output import print_line
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.errors import UsageError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.epoch import milliseconds
from mauntic_jobs.wording import plural

_FIELDS = {"email": "emailAddress", "sms": "phoneNumber", "push": "deviceToken"}
_BATCH = 1000


_EXAMPLE = "mauntic-jobs enqueue email --to ann@example.com --template 7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b --count 10"


@command(root, "enqueue", example=_EXAMPLE)
def enqueue(
    settings: Settings,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="email, sms or push.")],
    *,
    to: Annotated[str, typer.Option(metavar="ADDRESS", help="Email address, phone number or device token.")],
    template: Annotated[UUID | None, typer.Option(metavar="UUID", help="The template it is made of.")] = None,
    org: Annotated[
        UUID | None, typer.Option(metavar="UUID", help="Whose message it is. Default: whose template it is.")
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="TEXT", help="Instead of the template's.")] = None,
    body: Annotated[str | None, typer.Option(metavar="TEXT", help="Text or HTML, instead of a template.")] = None,
    transactional: Annotated[
        bool, typer.Option("--transactional", help="Send it also to a contact that has unsubscribed.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="How many messages.")] = 1,
) -> None:
    """Put test messages on a delivery queue the way a campaign does; of one, print the delivery id."""
    if channel not in CHANNELS:
        raise UsageError(f"There is no channel {channel}. The channels are: {', '.join(CHANNELS)}.")
    if template is None and body is None:
        raise UsageError("Say what the message is made of: --template or --body.")
    if org is None:
        org = _owner(settings, template)
    message = {
        "organizationId": str(org),
        _FIELDS[channel]: to,
        "templateId": str(template) if template else None,
        "subject": subject,
        "body": body,
        "transactional": transactional or None,
    }
    given = {name: value for name, value in message.items() if value is not None}
    with closing(open_redis(settings)) as redis:
        for first in range(0, count, _BATCH):
            jobs = [_job(settings, channel, given) for _ in range(min(_BATCH, count - first))]
            prefix = base_of(settings, channel).partition(":")[0]
            add_jobs(redis, prefix, jobs, milliseconds(clock.now()))
            if count == 1:
                print_line(jobs[0].data["deliveryId"])
    if count > 1:
        print_line(f"{plural(count, 'message')} on {base_of(settings, channel)}")


def _owner(settings: Settings, template: UUID | None) -> UUID:
    if template is None:
        raise UsageError("Say whose message it is: --org.")
    with connect(settings) as session:
        rows = session.rows(statements("deliveries")["template_owner"], {"template": template})
    if not rows:
        raise UsageError(f"There is no template {template}.")
    owner: UUID = rows[0]["organization_id"]
    return owner


def _job(settings: Settings, channel: str, message: dict[str, Any]) -> QueueJob:
    delivery = str(uuid4())
    queue = base_of(settings, channel).partition(":")[2]
    return QueueJob(queue, delivery, queue.rpartition(":")[2], {"deliveryId": delivery, **message})
