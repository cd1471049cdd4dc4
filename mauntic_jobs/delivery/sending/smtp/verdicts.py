"""Verdicts on SMTP replies that refuse a message, by the command that they answer."""

import re
from enum import StrEnum

from mauntic_jobs.delivery.sending.outcome import Blame, Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.smtp.deferrals import asked_seconds_of, is_greylisting, temporary_blame_of
from mauntic_jobs.delivery.sending.smtp.refusals import blame_of
from mauntic_jobs.delivery.sending.smtp.throttling import DAILY_SECONDS, is_crowded, is_daily, is_throttling
from mauntic_jobs.delivery.sending.smtp.wire import SHUTTING_DOWN, Reply

_TEMPORARY, _PERMANENT = range(400, 500), range(500, 600)
# About the login, the encryption, or the sender's server, whatever command they answer.
_LOGIN_CODES = frozenset({454, 530, 534, 535, 538})
_BAD_SEQUENCE = 503
_LONGEST_REPLY = 500
# As Postfix, Exim, Exchange, Sendmail, Google and Amazon name what they have queued.
_QUEUE_ID = re.compile(
    r"queued as ([\w.-]{4,64})|\bid=([\w.-]{4,64})|\bInternalId=(\d{4,64})|^(?:2\.\d\.\d )?(\w{8,64}) Message accepted"
    r"|^(?:2\.\d\.\d )?OK +\d+ ([\w.-]{4,64}) - gsmtp|^(?:2\.\d\.\d )?Ok ([0-9a-f]{8,64}[\w-]{0,64})$",
    re.IGNORECASE,
)


class SmtpStage(StrEnum):
    """What a reply answers."""

    SENDER = "the sender"
    RECIPIENT = "the recipient"
    DATA = "DATA"
    CONTENT = "the content"


def refusal(stage: SmtpStage, reply: Reply) -> Outcome:
    """Return the outcome of a reply that refuses. One after the content that is not a refusal is UNKNOWN."""
    reason, text = f"{stage} was refused: {reply}", _text(reply)
    if reply.code in _TEMPORARY or reply.code in _LOGIN_CODES:
        return throttling(reply, reason) or _temporary(reply, reason, text)
    if reply.code not in _PERMANENT:
        verdict = Verdict.UNKNOWN if stage is SmtpStage.CONTENT else Verdict.PROVIDER
        return Outcome(verdict, f"{stage}: an answer that is not one to it: {reply}")
    blame = blame_of(text)
    if stage is SmtpStage.SENDER and blame is Blame.MAILBOX:
        # Said of the sender's address.
        blame = Blame.SENDER
    if blame is Blame.SENDER or reply.code == _BAD_SEQUENCE:
        # The sender's account may send nothing like it here: the next provider may.
        return Outcome(Verdict.PROVIDER, reason, blame=blame)
    return Outcome(Verdict.PERMANENT, reason, reject=_reject_reason(blame, stage), blame=blame)


def _temporary(reply: Reply, reason: str, text: str) -> Outcome:
    if reply.code == SHUTTING_DOWN and not is_greylisting(text):
        return Outcome(Verdict.PROVIDER, reason, blame=Blame.SESSION)
    if reply.code in _LOGIN_CODES:
        return Outcome(Verdict.PROVIDER, reason, blame=Blame.SENDER)
    return Outcome(Verdict.DEFERRED, reason, blame=temporary_blame_of(text), retry_after=asked_seconds_of(text))


def throttling(reply: Reply, reason: str) -> Outcome | None:
    """Return the outcome of a reply that refuses for the rate of this account or host, None for any other."""
    text = _text(reply)
    if reply.code not in _TEMPORARY or not is_throttling(text):
        return None
    wait, daily = asked_seconds_of(text), is_daily(text)
    if wait is None and daily:
        wait = DAILY_SECONDS
    crowded = is_crowded(text)
    return Outcome(
        Verdict.RATE_LIMITED, reason, blame=Blame.SENDER, retry_after=wait, is_daily=daily, is_crowded=crowded
    )


def is_about_session(reply: Reply) -> bool:
    """Whether a reply refuses for the sake of this connection, so that a new one may do."""
    if reply.code == SHUTTING_DOWN:
        return True
    return (reply.code in _TEMPORARY or reply.code in _PERMANENT) and temporary_blame_of(_text(reply)) is Blame.SESSION


def queue_id_of(reply: Reply) -> str | None:
    """Return the id that a server's reply to the content names, or None."""
    found = _QUEUE_ID.search(_text(reply))
    return found[found.lastindex or 0] if found else None


def _text(reply: Reply) -> str:
    return " ".join(reply.lines)[:_LONGEST_REPLY]


def _reject_reason(blame: Blame, stage: SmtpStage) -> RejectReason:
    if blame is Blame.POLICY:
        return RejectReason.BLOCKED
    # After the content servers say the same of what they do not like.
    return RejectReason.BOUNCED if blame is Blame.MAILBOX and stage is SmtpStage.RECIPIENT else RejectReason.OTHER
