"""The demo's scene in which a campaign is delivered on three channels, and comes back as events in the rollups."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.demo.campaign import RECIPIENTS, add_campaign
from mauntic_jobs.demo.fakes import Fakes, running_fakes
from mauntic_jobs.demo.organizations import organizations
from mauntic_jobs.demo.scenes import demand
from mauntic_jobs.demo.stage import Stage, perform
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_date

_AT_ONCE = 20
# However busy this machine is: the stand-ins answer.
_SEND_TIMEOUT, _DRAIN_TIMEOUT = timedelta(seconds=30), timedelta(minutes=1)

_sql = statements("demo_campaign")


def play_delivery(stage: Stage) -> None:
    """Deliver a campaign of the largest organization. Raises JobFailedError if it does not end as it should."""
    largest = organizations(stage.profiles)[0]
    stage.show.step("Deliver a campaign by email, SMS and push", "mauntic-jobs deliver --all --drain")
    jobs, messages = asyncio.run(_deliver(stage, largest.id)), sum(RECIPIENTS.values())
    rows = stage.session.rows(_sql["outcome"])
    settled = sum(row[name] for row in rows for name in ("sent", "suppressed", "failed"))
    demand(settled == messages, f"Of {messages} messages {settled} are accounted for.")
    stage.show.done(
        f"{messages:,} messages of {largest.name}, to stand-ins for SMTP, Twilio and FCM on this machine. "
        f"{jobs - messages} of the {jobs:,} jobs asked for a message that another had asked for, and sent nothing."
    )
    names = ("sent", "suppressed", "failed")
    stage.show.blank()
    stage.show.table(
        ["channel", "messages", *names, "campaign"],
        [[row["channel"], row["recipient_count"], *(row[name] for name in names), row["status"]] for row in rows],
    )
    stage.show.blank()
    _aggregate(stage, {row["channel"]: row["sent"] for row in rows})


def _aggregate(stage: Stage, sent: dict[str, int]) -> None:
    """Show the messages in the rollups of today, which is not the story's."""
    now = clock.now()
    stage.show.command("mauntic-jobs aggregate-hourly --date today --compare")
    outcome = perform(replace(stage, now=now), AGGREGATE_HOURLY, parse_date("today", now), compare=True)
    rows = [row for row in outcome.changes if row["event_type"] in {f"{channel}_sent" for channel in sent}]
    gained = {row["event_type"].partition("_")[0]: row["new_count"] - (row["old_count"] or 0) for row in rows}
    demand(gained == sent, f"{sent} were sent, and the rollups gained {gained}.")
    stage.show.done("They have come back as events: the rollups of today have gained just what was sent.")
    stage.show.blank()
    stage.show.table(
        ["event type", "count"],
        [[row["event_type"], f"{row['old_count'] or 0:,} -> {row['new_count']:,}"] for row in rows],
    )


async def _deliver(stage: Stage, organization: UUID) -> int:
    async with running_fakes() as fakes:
        settings = _settings(stage.settings, fakes)
        jobs = add_campaign(stage.session, settings, organization, fakes, clock.now())
        plan = DeliveryPlan(dict.fromkeys(CHANNELS, _AT_ONCE), timedelta(days=2), _DRAIN_TIMEOUT, until_empty=True)
        await WorkerProcess(settings, plan, stage.show.text, lambda *_: None).run()
    return jobs


def _settings(settings: Settings, fakes: Fakes) -> Settings:
    """Return what the stand-ins are reached by, with deliveries noted as activity."""
    urls = dict.fromkeys(("twilio", "fcm", "google_token"), fakes.api)
    changed = {
        "allowed_networks": f"{fakes.host}/32",
        "provider_urls": urls,
        "record_activity": True,
        "send_timeout": _SEND_TIMEOUT,
    }
    return Settings(**{**settings.model_dump(), **changed})
