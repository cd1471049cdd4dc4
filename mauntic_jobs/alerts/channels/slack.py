"""Slack's incoming webhooks, and what understands their messages."""

import json

from mauntic_jobs.alerts.http import post
from mauntic_jobs.alerts.notice import Event, Notice
from mauntic_jobs.redaction.printable import printable
from mauntic_jobs.settings.alert_channels import SlackChannel


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
