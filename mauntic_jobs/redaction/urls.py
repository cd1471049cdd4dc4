"""Secrets in addresses: what of a URL may be shown."""

import re
from urllib.parse import urlsplit

MASK = "***"

_HOST = r"(?:\[[^\]\s]*\]|[^:/@,\s\[\]]*)(?::\d*)?"
# Everything between the user's colon and the last @ is the password, also where marks in it should have been encoded.
_ADDRESS = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*://)(?:(?P<user>[^:/@\s]*)(?P<password>:.*)?@)?(?P<place>{_HOST}(?:,{_HOST})*(?:/[^@\s]*)?)",
    re.IGNORECASE,
)
# What may be shown of a URL's parameters.
_HARMLESS = {"host", "port", "dbname", "sslmode", "channel_binding", "application_name", "connect_timeout"}
_HARMLESS |= {"target_session_attrs", "options", "db", "protocol"}
# Schemes whose host is no secret.
_PLACES = {"http", "https", "smtp", "smtps"}


def mask_url(url: str) -> str:
    """Return `url` without its password, for display; nothing of it where it cannot be told what is the password."""
    address, mark, query = url.partition("?")
    if "@" in query:
        # A password with a question mark in it.
        address, mark, query = url, "", ""
    match = _ADDRESS.fullmatch(address)
    if not match:
        return MASK
    shown = f"{match['scheme']}{match['user']}:{MASK}@{match['place']}" if match["password"] else address
    values = [
        pair if pair.partition("=")[0] in _HARMLESS else f"{pair.partition('=')[0]}={MASK}" for pair in query.split("&")
    ]
    return shown + mark + "&".join(values) if query else shown


def host_only(url: str) -> str:
    """Return the scheme and host of `url`, for display where the rest may be the secret; else nothing of it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}/{MASK}" if parts.hostname and parts.scheme in _PLACES else MASK
