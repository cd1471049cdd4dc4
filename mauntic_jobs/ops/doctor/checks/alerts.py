"""Alerts: whether anybody is told."""

from collections.abc import Iterator
from importlib.util import find_spec

from mauntic_jobs.ops.doctor.check import Check, Site
from mauntic_jobs.ops.doctor.finding import Finding, error, ok, warning
from mauntic_jobs.wording import plural


def _channels(site: Site) -> Iterator[Finding]:
    channels = site.settings.alerts
    if any(channel.type == "apprise" for channel in channels) and find_spec("apprise") is None:
        yield error("a channel needs Apprise, which is not installed", "pip install mauntic-jobs[apprise]")
    elif channels:
        yield ok(f"{plural(len(channels), 'channel')} may be told", "`mauntic-jobs alerts test` proves each")
    else:
        yield warning("there is no channel: no alert is sent when a job fails", "Set MAUNTIC_ALERTS: docs/alerts.md")


CHECKS = (Check("alerts", "channels", _channels),)
