"""Channel for every service that Apprise supports."""

import logging

from mauntic_jobs.alerts.channels.error import ChannelError
from mauntic_jobs.alerts.notice import Notice
from mauntic_jobs.settings.alert_channels import AppriseChannel


def send(channel: AppriseChannel, notice: Notice, _seconds: float) -> None:
    """Hand a notice to Apprise, whose own limits of time are longer than ours. Raises ChannelError."""
    try:
        from apprise import Apprise
    except ImportError:
        raise ChannelError("Apprise is not installed: pip install mauntic-jobs[apprise]") from None
    # It would print what went wrong, with addresses.
    logging.getLogger("apprise").disabled = True
    service = Apprise()
    if not service.add(channel.url.get_secret_value()):
        raise ChannelError("Apprise cannot read the address")
    if not service.notify(title=notice.title, body="\n".join(notice.lines)):
        raise ChannelError("Apprise could not deliver")
