"""Operators' restrictions of what is sent: set, ended and listed in Postgres, where delivering processes read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

_sql = statements("restrictions")


@dataclass(frozen=True)
class RestrictedScope:
    """Whose messages are restricted: those of an organization, a channel, a campaign or a provider, or all."""

    organization: UUID | None = None
    channel: str | None = None
    provider: UUID | None = None
    campaign: str | None = None

    def __str__(self) -> str:
        """Return it as words: `the email of organization 7b0e…`."""
        if self.provider is not None:
            return f"provider {self.provider} of organization {self.organization}"
        messages = f"the {self.channel} messages" if self.channel else "all messages"
        whose = f" of organization {self.organization}" if self.organization else ""
        return f"{messages} of campaign {self.campaign}{whose}" if self.campaign else f"{messages}{whose}"


def effect_of(rate: float) -> str:
    """Return what a rate of messages a second comes to: `paused` for none, else `at most 10/s`."""
    return f"at most {rate:.3g}/s" if rate else "paused"


def end_words(until: datetime | None) -> str:
    """Return until when a restriction holds, as words."""
    return f"until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if until else "until it is resumed"


def scope_of(row: Row) -> RestrictedScope:
    """Return whose messages a row of `mauntic_jobs.restrictions` restricts."""
    return RestrictedScope(row["organization_id"], row["channel"], row["provider_id"], row["campaign_id"])


def restrict(
    session: Session, scope: RestrictedScope, *, rate: float, why: str, by: str, now: datetime, until: datetime | None
) -> int:
    """Restrict messages from now on, to so many a second or with 0 to none; return the restriction's id.

    Raises UsageError for an end that is past.
    """
    if until is not None and until <= now:
        raise UsageError(f"{until:%Y-%m-%d %H:%M} UTC is past: nothing would be held back.")
    row = session.row(
        _sql["set"],
        {
            "organization": scope.organization,
            "channel": scope.channel,
            "provider": scope.provider,
            "campaign": scope.campaign,
            "rate": rate,
            "why": why,
            "by": by,
            "since": now,
            "until": until,
        },
    )
    return int(row["id"])


def with_organization(session: Session, scope: RestrictedScope) -> RestrictedScope:
    """Return the scope of a provider with its organization and channel. Raises UsageError if there is no such one."""
    if scope.provider is None:
        return scope
    rows = session.rows(_sql["provider"], {"provider": scope.provider})
    if not rows:
        raise UsageError(f"There is no provider {scope.provider}: `mauntic-jobs providers list` names them.")
    organization, channel = rows[0]["organization_id"], rows[0]["channel"]
    if scope.organization not in (None, organization) or scope.channel not in (None, channel):
        raise UsageError(f"The provider {scope.provider} is one of organization {organization}, for {channel}.")
    return RestrictedScope(organization, channel, scope.provider)


def end_restrictions(session: Session, ids: Sequence[int] | None, by: str, now: datetime) -> list[int]:
    """End restrictions, with None all; return the ids of those that still held."""
    rows = session.rows(_sql["end"], {"ids": None if ids is None else list(ids), "by": by, "now": now})
    return sorted(row["id"] for row in rows)


def list_restrictions(
    session: Session, now: datetime, organization: UUID | None = None, *, ended: bool = False, limit: int = 100
) -> list[Row]:
    """Return the restrictions that hold, and with `ended` also those that do not any more, the latest first."""
    return session.rows(_sql["list"], {"now": now, "organization": organization, "ended": ended, "limit": limit})
