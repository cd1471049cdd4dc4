"""Endpoint of the operator's own: the notice as JSON, signed as https://www.standardwebhooks.com specifies."""

import base64
import hashlib
import hmac
import json
from binascii import Error as Base64Error

from mauntic_jobs.alerts.http import post
from mauntic_jobs.alerts.notice import Notice, as_json
from mauntic_jobs.settings.alert_channels import WebhookChannel

_BASE64 = "whsec_"


def send(channel: WebhookChannel, notice: Notice, seconds: float) -> None:
    """Post a notice. Raises HttpError."""
    body = json.dumps(as_json(notice), ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = f"{notice.at.timestamp():.0f}"
    headers = {
        "Content-Type": "application/json",
        "webhook-id": notice.key,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(channel.secret.get_secret_value(), notice.key, timestamp, body),
    }
    post(channel.url.get_secret_value(), body, headers, seconds)


def signature(secret: str, key: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a message: HMAC-SHA256 of its id, time in seconds since 1970 and body, joined by dots."""
    signed = b".".join([key.encode(), timestamp.encode(), body])
    return f"v1,{base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()}"


def _key(secret: str) -> bytes:
    if not secret.startswith(_BASE64):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_BASE64), validate=True)
    except Base64Error:
        return secret.encode()
