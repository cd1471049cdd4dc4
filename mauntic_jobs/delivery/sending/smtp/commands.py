"""SMTP commands that hand over one message, and its content as it goes over the wire."""

from mauntic_jobs.delivery.render.mime import Mime
from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.delivery.sending.smtp.login import Ended, Features


def commands(host: str, features: Features, sender: str, recipient: str, mime: Mime) -> tuple[bytes, list[bytes]]:
    """Return the content and the commands before it. Raises Ended for a message that the server cannot take."""
    if mime.needs_smtputf8 and not features.utf8:
        raise Ended(Outcome(Verdict.PERMANENT, f"{host} takes no addresses in UTF-8 (SMTPUTF8)"))
    if features.size and len(mime.content) > features.size:
        reason = f"the message has {len(mime.content):,} bytes, and {host} takes {features.size:,}"
        raise Ended(Outcome(Verdict.PERMANENT, reason))
    parameters = [f"SIZE={len(mime.content)}"] if features.size else []
    parameters += ["BODY=8BITMIME"] if mime.needs_8bit else []
    parameters += ["SMTPUTF8"] if mime.needs_smtputf8 else []
    envelope = [
        " ".join([f"MAIL FROM:<{sender}>", *parameters]).encode() + b"\r\n",
        f"RCPT TO:<{recipient}>\r\n".encode(),
        b"DATA\r\n",
    ]
    return _stuffed(mime.content), envelope


def _stuffed(content: bytes) -> bytes:
    """Return a content with a dot before each line that begins with one, and the line that ends it."""
    if content.startswith(b".") or b"\n." in content:
        content = content.replace(b"\n.", b"\n..")
        content = b"." + content if content.startswith(b".") else content
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")
