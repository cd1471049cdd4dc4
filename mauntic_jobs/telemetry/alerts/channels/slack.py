"""Slack's incoming webhooks, and what understands their messages."""

import json

from mauntic_jobs.alert_channels import SlackChannel
from mauntic_jobs.printable import printable
from mauntic_jobs.telemetry.alerts.notice import Event, Notice
from mauntic_jobs.telemetry.http import post


def send(channel: SlackChannel, notice: Notice, seconds: float) -> None:
    """Post a notice as a message. Raises HttpError."""
    post(channel.url.get_secret_value(), payload(notice), {"Content-Type": "application/json"}, seconds)


def payload(notice: Notice) -> bytes:
    """Return the message: its text only, which everything that is compatible shows."""
    next_line, *others = notice.lines
    if notice.event is not Event.CLOSED:
        next_line = f"Next: `{printable(notice.action)}`"
    text = "\n".join([f"*{notice.title}*", next_line, *others])
    return json.dumps({"text": _escaped(text)}).encode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
