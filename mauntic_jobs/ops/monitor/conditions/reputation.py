"""Hard bounces and complaints of organizations: sending is paused before receivers block the sender."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.alerts.alert import Alert, Cause, Detail, Severity
from mauntic_jobs.job import Row
from mauntic_jobs.ops.monitor.sent import sent_messages
from mauntic_jobs.ops.restrictions import RestrictedScope, restrict
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session

# Who has set such a pause; operators have a host in their names.
BY = "monitor"
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

_sql = statements("reputation")


class Rule(NamedTuple):
    """What is too much of a kind within a time: more than a `share` of at least `sent` messages, and not fewer."""

    kind: str
    within: timedelta
    share: float
    fewest: int
    sent: int = 0


# Mailbox providers act on 0.3 % of complaints, email services on 5 to 10 % of bounces.
RULES = (
    Rule("complained", _HOUR, 0.01, 5, 200),
    Rule("complained", _DAY, 0.003, 10, 1000),
    Rule("bounced", _HOUR, 0.10, 20),
    Rule("bounced", _DAY, 0.05, 50),
)
_NAMES = {"complained": "complaints", "bounced": "hard bounces"}
_SPANS = {_HOUR: "hour", _DAY: "day"}


class LimitReached(NamedTuple):
    """A rule that an organization's channel comes close to, with what was counted."""

    rule: Rule
    outcomes: int
    sent: int

    @property
    def share(self) -> float:
        """The share of what was sent, from 0 to 1."""
        return self.outcomes / max(self.sent, self.outcomes)

    @property
    def is_over(self) -> bool:
        """Whether the limit is passed, and not only half of it."""
        return self.share > self.rule.share

    @property
    def evidence(self) -> str:
        """What was counted, as a sentence's part."""
        rule = self.rule
        return (
            f"{self.share:.2%} {_NAMES[rule.kind]} within the last {_SPANS[rule.within]} "
            f"({self.outcomes:,} of {self.sent:,}, limit {rule.share:.1%})"
        )


def reputations(session: Session, settings: Settings, now: datetime) -> list[Alert]:
    """Pause organizations whose messages bounce or are complained about too often; return an alert for each.

    One that has reached half of a limit gets a warning. After a pause the windows begin with its end. Where the setting
    `auto_pause` is `off`, nothing is paused.
    """
    held = _held(session, now)
    alerts: dict[tuple[UUID, str], Alert] = {
        (row["organization_id"], row["channel"]): _alert(
            (row["organization_id"], row["channel"]), f"and paused: {row['why']}", Severity.ERROR, number=row["id"]
        )
        for row in held.values()
        if row["own"]
    }
    for row in session.rows(_sql["outcomes"], {**_asked(now), **_fewest()}):
        sender = row["organization_id"], row["channel"]
        worst = max(_breaches(session, row, now), key=lambda each: each.share / each.rule.share, default=None)
        if worst is None or sender in alerts:
            continue
        if not worst.is_over:
            text = f"more than half of a limit is reached: {worst.evidence}"
            alerts[sender] = _alert(sender, text, Severity.WARNING, worst=worst)
        elif settings.auto_pause == "off" or _is_held(held, sender):
            alerts[sender] = _alert(sender, worst.evidence, Severity.ERROR, worst=worst)
        else:
            number = _pause(session, settings, sender, worst.evidence, now)
            alerts[sender] = _alert(sender, f"and paused: {worst.evidence}", Severity.ERROR, worst=worst, number=number)
    return list(alerts.values())


def _held(session: Session, now: datetime) -> dict[tuple[UUID | None, str | None], Row]:
    """Return the pauses of channels and organizations, those of the monitor before the others."""
    rows = session.rows(_sql["held"], {"by": BY, "now": now})
    return {(row["organization_id"], row["channel"]): row for row in reversed(rows)}


def _is_held(held: Mapping[tuple[UUID | None, str | None], Row], sender: tuple[UUID, str]) -> bool:
    """Return whether an operator has paused a channel of an organization, by itself or with others."""
    organization, channel = sender
    return not held.keys().isdisjoint({sender, (organization, None), (None, channel), (None, None)})


def _asked(now: datetime) -> dict[str, object]:
    return {"by": BY, "now": now, "hour": now - _HOUR, "day": now - _DAY}


def _fewest() -> dict[str, int]:
    return {f"fewest_{kind}": min(rule.fewest for rule in RULES if rule.kind == kind) for kind in _NAMES}


def _breaches(session: Session, row: Row, now: datetime) -> Iterator[LimitReached]:
    """Yield the rules of which more than half is reached."""
    for rule in RULES:
        span = _SPANS[rule.within]
        count = row[f"{rule.kind}_{span}"]
        if count < rule.fewest:
            continue
        since = max(now - rule.within, row["resumed_at"] or now - rule.within)
        sent = _sent(session, row["organization_id"], row["channel"], now, since) + row[f"unsent_{span}"]
        found = LimitReached(rule, count, sent)
        if sent >= rule.sent and found.share > rule.share / 2:
            yield found


def _sent(session: Session, organization: UUID, channel: str, now: datetime, since: datetime) -> int:
    found = sent_messages(session, {organization}, now, since)
    return sum(messages for sender, messages in found.items() if sender.channel == channel)


def _pause(session: Session, settings: Settings, sender: tuple[UUID, str], evidence: str, now: datetime) -> int | None:
    """Pause a sender, unless another monitor has done so since; return the pause."""
    until = now + settings.auto_pause if isinstance(settings.auto_pause, timedelta) else None
    with session.transaction(Limits("mauntic-jobs monitor")):
        session.rows(_sql["lock"])
        if _is_held(_held(session, now), sender):
            return None
        return restrict(session, RestrictedScope(*sender), rate=0, why=evidence, by=BY, now=now, until=until)


def _alert(
    sender: tuple[UUID, str],
    text: str,
    severity: Severity,
    *,
    worst: LimitReached | None = None,
    number: int | None = None,
) -> Alert:
    organization, channel = sender
    details: dict[str, Detail] = {}
    if worst is not None:
        details = {worst.rule.kind: worst.outcomes, "sent": worst.sent, "share": round(worst.share, 5)}
    listed = f"mauntic-jobs deliveries list --state failed --channel {channel} --org {organization}"
    return Alert(
        cause=Cause.REPUTATION,
        key=f"{channel}/{organization}",
        severity=severity,
        summary=f"The {channel} messages of organization {organization} are at risk of being blocked, {text}.",
        action=listed if number is None else f"mauntic-jobs deliveries resume {number}",
        details=details,
    )
