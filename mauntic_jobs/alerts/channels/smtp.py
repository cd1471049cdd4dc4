"""Mail."""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from urllib.parse import unquote, urlsplit

from mauntic_jobs.alerts.channels.error import ChannelError
from mauntic_jobs.alerts.notice import Notice
from mauntic_jobs.settings.alert_channels import SmtpChannel
from mauntic_jobs.settings.certificates import machine_trust

_PORTS = {"smtp": 587, "smtps": 465}


def send(channel: SmtpChannel, notice: Notice, seconds: float) -> None:
    """Send a notice to all its recipients. Raises ChannelError."""
    try:
        with _connected(channel, seconds) as server:
            refused = server.send_message(_message(channel, notice), channel.sender, channel.to)
    except smtplib.SMTPAuthenticationError:
        raise ChannelError("the mail server refused the login") from None
    except smtplib.SMTPResponseException as error:
        raise ChannelError(f"the mail server answered {error.smtp_code}") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        raise ChannelError(f"the mail server refused every recipient: {', '.join(map(str, codes))}") from None
    except smtplib.SMTPException as error:
        raise ChannelError(f"the mail server broke off ({type(error).__name__})") from None
    except (OSError, ValueError) as error:
        raise ChannelError(f"the mail server cannot be reached: {error}") from None
    if refused:
        raise ChannelError(f"the mail server refused {len(refused)} of {len(channel.to)} recipients")


def _connected(channel: SmtpChannel, seconds: float) -> smtplib.SMTP:
    url = urlsplit(channel.url.get_secret_value())
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=seconds, context=machine_trust())
    else:
        server = smtplib.SMTP(host, port, timeout=seconds)
    try:
        if url.scheme == "smtp":
            _encrypt(server, needed=url.username is not None)
        if url.username is not None:
            server.login(unquote(url.username), unquote(url.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _encrypt(server: smtplib.SMTP, *, needed: bool) -> None:
    """Encrypt where the server can; a password goes to a server only that shows who it is."""
    server.ehlo()
    if server.has_extn("starttls"):
        context = machine_trust()
        if not needed:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        server.starttls(context=context)
    elif needed:
        raise ChannelError("the mail server offers no encryption, and a password is not sent without it")


def _message(channel: SmtpChannel, notice: Notice) -> EmailMessage:
    message = EmailMessage()
    message["From"] = channel.sender
    message["To"] = ", ".join(channel.to)
    message["Subject"] = notice.title
    message["Date"] = format_datetime(notice.at)
    message["Message-ID"] = make_msgid(notice.key, channel.sender.rpartition("@")[2].strip("> "))
    message["Auto-Submitted"] = "auto-generated"
    details = [f"{name}: {value}" for name, value in notice.details.items()]
    message.set_content("\n".join([notice.summary, "", *notice.lines, "", *details]))
    return message
