"""Temporary SMTP refusals for the rate at which this account or host sends: a provider's limit, not a receiver's wish.

Sources: the answers of SES, Postfix, Exim, Exchange and hosted relays in `tests/world/cases/smtp_throttling.toml`.
"""

import re

# Names of a limit of connections at once, or of exchanges on them.
_CROWDED = (
    r"too many (?:concurrent |simultaneous |open )*(?:smtp )?(?:connections|sessions|logins)"
    r"|(?:concurrent|simultaneous)(?: smtp)? (?:connections?|sessions?) (?:limit|quota)|connection count"
    r"|concurrency limit|sender thread limit"
)
_THROTTLING = re.compile(
    rf"{_CROWDED}|too many login attempts"
    r"|throttl|rate[ -]?limit|ratelimit|rate overlimit|(?:sending|send|submission|message|mail) rate\b"
    r"|too (?:much|many) (?:mails?|messages|e-?mails|recipients) (?:from|sent|per|in|within|this|for)\b"
    r"|(?:sent|sending) (?:too (?:many|much|fast|quickly)|messages too)|too (?:fast|quickly)|slow down"
    r"|(?:messages|e-?mails|mails|recipients) (?:per|an?|each|every) (?:second|minute|hour|day)"
    r"|(?:hourly|daily|per-?(?:minute|hour|day)|24[ -]hours?|sending|outgoing|relay|message|e-?mail)\b[^.;]{0,30}"
    r"\b(?:limit|quota)\b[^.;]{0,30}\b(?:exceed|reach|hit)"
    r"|exceed\w*[^.;]{0,20}\b(?:hourly|daily|24[ -]hour|sending)\b[^.;]{0,20}\b(?:limit|quota)"
    r"|\blimit of [\d,.]+ (?:rcpts|recipients|messages|e-?mails|mails) per\b"
    r"|connection (?:rate|frequency)",
    re.IGNORECASE,
)
_CROWDED_ONLY = re.compile(_CROWDED, re.IGNORECASE)
# About one recipient or one connection, or about what is sent and not how much.
_OTHER = re.compile(
    r"you are trying to (?:contact|reach)|is receiving|mailbox|inbox|storage|unsolicited|spam|gr[ae]y-?list"
    r"|\b(?:this|per|one|single) (?:smtp )?(?:connection|session)",
    re.IGNORECASE,
)
_DAILY = re.compile(r"\bdaily\b|24[ -]?h|per[ -]day", re.IGNORECASE)
# A quota of a day comes back bit by bit, or at an unknown hour. Room that is left unused within the hour is not lost.
DAILY_SECONDS = 3600.0


def is_throttling(text: str) -> bool:
    """Return whether a reply below 500 refuses for a rate; `text` is without the code of three digits."""
    return _THROTTLING.search(text) is not None and _OTHER.search(text) is None


def is_crowded(text: str) -> bool:
    """Return whether a reply that refuses for a rate is about too many connections at once."""
    return _CROWDED_ONLY.search(text) is not None


def is_daily(text: str) -> bool:
    """Return whether a reply that refuses for a rate is about the quota of a day."""
    return _DAILY.search(text) is not None
