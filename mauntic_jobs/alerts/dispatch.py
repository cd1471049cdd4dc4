"""Dispatch of notices to the first channel that takes them, within a time that no channel can overrun."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from mauntic_jobs.alerts.channels import apprise, slack, smtp, webhook
from mauntic_jobs.alerts.channels.error import ChannelError
from mauntic_jobs.alerts.http import HttpError
from mauntic_jobs.alerts.ledger import NoticeOutcome
from mauntic_jobs.alerts.notice import Notice
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.settings.alert_channels import AnyChannel, AppriseChannel, SlackChannel, SmtpChannel, WebhookChannel
from mauntic_jobs.settings.settings import Settings


@dataclass(frozen=True)
class ConfiguredChannel:
    """A channel of the settings, and what it is called."""

    name: str
    settings: AnyChannel


def channels_of(settings: Settings) -> list[ConfiguredChannel]:
    """Return the channels in the order in which they are tried."""
    return [ConfiguredChannel(f"{each.type} {number}", each) for number, each in enumerate(settings.alerts, 1)]


def send_all(settings: Settings, notices: Sequence[Notice]) -> tuple[list[NoticeOutcome], dict[str, str]]:
    """Return what became of each notice, and what is wrong with the channels that took none.

    It all takes no longer than `alert_timeout`. A channel that failed once is not tried again.
    """
    deadline = time.monotonic() + settings.alert_timeout.total_seconds()
    broken: dict[str, str] = {}
    return [_send(notice, channels_of(settings), broken, deadline) for notice in notices], broken


def attempt(channel: ConfiguredChannel, notice: Notice, seconds: float) -> str | None:
    """Hand a notice to one channel, and return why it did not take it.

    In a thread of its own, because looking up a host can take any time, and a server can answer a byte at a time.
    """
    answers: SimpleQueue[str | None] = SimpleQueue()
    Thread(target=lambda: answers.put(_problem(channel, notice, seconds)), name=channel.name, daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return f"no answer within {seconds:.1f} s"


def _send(
    notice: Notice, channels: Sequence[ConfiguredChannel], broken: dict[str, str], deadline: float
) -> NoticeOutcome:
    wanted = [each for each in channels if notice.severity.rank >= each.settings.min_severity.rank]
    if not wanted:
        return NoticeOutcome(None, None)
    whole = [each for each in wanted if each.name not in broken]
    for place, channel in enumerate(whole):
        # So that the first cannot take the time of those that stand in for it.
        seconds = (deadline - time.monotonic()) / (len(whole) - place)
        if seconds <= 0:
            return NoticeOutcome(None, "no time was left to send it")
        problem = attempt(channel, notice, seconds)
        if problem is None:
            return NoticeOutcome(channel.name, None)
        broken[channel.name] = problem
    return NoticeOutcome(None, "; ".join(f"{each.name}: {broken[each.name]}" for each in wanted))


def _problem(channel: ConfiguredChannel, notice: Notice, seconds: float) -> str | None:
    try:
        match channel.settings:
            case SlackChannel():
                slack.send(channel.settings, notice, seconds)
            case WebhookChannel():
                webhook.send(channel.settings, notice, seconds)
            case SmtpChannel():
                smtp.send(channel.settings, notice, seconds)
            case AppriseChannel():
                apprise.send(channel.settings, notice, seconds)
    except (ChannelError, HttpError) as error:
        return scrub(str(error))
    except Exception as defect:  # noqa: BLE001 - the next channel is tried, whatever this one does
        return f"failed by {type(defect).__name__}"
    return None
