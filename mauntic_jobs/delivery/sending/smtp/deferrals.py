"""Temporary SMTP refusals: about this connection, or a wish to wait, with how long the server asks for.

Sources: the texts of Postfix, Exim, Sendmail, Exchange, postgrey, milter-greylist, rspamd and large receivers, which
`tests/world/cases/smtp_deferrals.toml` lists.
"""

import re

from mauntic_jobs.delivery.sending.outcome import Blame

# However long a server asks for: a receiver is asked again this often.
_MAX_SECONDS = 14_400.0
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
_HOURS_MINUTES_SECONDS = (3600, 60, 1)

# A count of what one connection may carry; counts for an hour or a sender are none of the connection.
_SESSION = re.compile(
    r"^4\.5\.3\b|too many (?:messages|mails|e-?mails|recipients|rcpts?|transactions|errors|commands)"
    r"(?!.*\b(?:from|sent|second|minute|hour|day|sender|your|user|account)\b)"
    r"|(?:per|in this|in one|in a single|for this|on this|of this|this smtp) (?:smtp )?(?:connection|session)"
    r"|(?:session|connection) (?:message )?(?:limit|quota|lifetime|time)(?: has been| was)? (?:reached|exceeded)"
    r"|\bre-?connect\b|new (?:smtp )?(?:connection|session)|closing (?:transmission )?(?:channel|connection)",
    re.IGNORECASE | re.DOTALL,
)
_GREYLISTING = re.compile(r"\bgr[ae]y-?list", re.IGNORECASE)
_ASKED = re.compile(
    r"(?:again|back|re-?try|re-?send|wait|gr[ae]y-?list\w*|defer\w*|delay\w*|reject\w*)\b[^.;,\d]{0,40}?"
    r"(?:(\d{1,2}):(\d\d):(\d\d)|(\d{1,6}) ?(s|m|h)(?:ec(?:ond)?s?|in(?:ute)?s?|(?:ou)?rs?)?\b)",
    re.IGNORECASE,
)


def temporary_blame_of(text: str) -> Blame:
    """Return SESSION if a new connection may do, else WAIT; `text` is the reply's, without the code of three digits."""
    return Blame.SESSION if _SESSION.search(text) else Blame.WAIT


def is_greylisting(text: str) -> bool:
    """Whether a server says that it greylists, which is about this message even where it closes the connection."""
    return _GREYLISTING.search(text) is not None


def asked_seconds_of(text: str) -> float | None:
    """Return for how many seconds a server asks to wait, 4 h at most, or None if it does not say."""
    found = _ASKED.search(text)
    if found is None:
        return None
    if found[4]:
        seconds = int(found[4]) * _UNIT_SECONDS[found[5].lower()]
    else:
        seconds = sum(int(found[n + 1]) * each for n, each in enumerate(_HOURS_MINUTES_SECONDS))
    return min(float(seconds), _MAX_SECONDS)
