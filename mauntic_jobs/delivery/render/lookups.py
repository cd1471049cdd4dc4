"""Look-ups of contacts, templates and domains in the platform's tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mauntic_jobs.aio.batcher import Batcher
from mauntic_jobs.aio.ttl_cache import Cache
from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.job import Row
from mauntic_jobs.segments.membership import membership_statement
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.postgres.values import unreadable

_TEMPLATE_SECONDS = 30
_DOMAIN_SECONDS = 60
_SEGMENT_SECONDS = 30

# An organization, and the id of a row that belongs to it.
_Key = tuple[UUID, UUID]

_sql = statements("deliveries")


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A row of `content.templates`."""

    subject: str | None
    html: str | None
    text: str | None


class Lookups:
    """Finds rows by their ids, only where they belong to the organization that asks."""

    def __init__(self, postgres: PostgresLink) -> None:
        self._postgres = postgres
        self._contacts: Batcher[_Key, Row | None] = Batcher(self._by_id("contact"))
        self._fresh_templates: Batcher[_Key, Row | None] = Batcher(self._by_id("template"))
        self._templates: Cache[_Key, Row | None] = Cache(self._fresh_templates.ask, _TEMPLATE_SECONDS)
        self._companies: Batcher[_Key, Row | None] = Batcher(self._by_id("company"))
        self._segments: Cache[tuple[UUID, str], Row | None] = Cache(self._segment, _SEGMENT_SECONDS)
        self._domains: Cache[tuple[UUID, str], datetime | None] = Cache(self._domain, _DOMAIN_SECONDS)

    async def contact(self, organization: UUID, contact: UUID) -> Row | None:
        """Return the row of `crm.contacts`, never an older one."""
        return await self._contacts.ask((organization, contact))

    async def template(self, organization: UUID, template: UUID) -> StoredTemplate | None:
        """Return a template as it was less than half a minute ago."""
        row = await self._templates.get((organization, template))
        return None if row is None else StoredTemplate(row["subject"], row["body_html"], row["body_text"])

    async def company(self, organization: UUID, contact: UUID) -> str | None:
        """Return the name of the contact's company, of several the one that was created first."""
        row = await self._companies.ask((organization, contact))
        return None if row is None else str(row["name"])

    async def is_member(self, organization: UUID, segment: str, contact: UUID) -> bool | None:
        """Return whether a contact belongs to the segment of a name, or None if the organization has no such segment.

        Raises JobFailedError if the segment's criteria cannot be used.
        """
        row = await self._segments.get((organization, segment))
        if row is None:
            return None
        problem = unreadable(row)
        if problem:
            raise JobFailedError(f"the segment {segment!r} cannot be read: {problem}")
        try:
            statement, parameters = membership_statement(row)
        except JobFailedError as error:
            raise JobFailedError(f"the segment {segment!r} cannot be used: {error}") from None
        own = {"organization": organization, "segment": row["id"], "contact": contact}
        rows = await self._postgres.rows(statement, {**parameters, **own})
        return bool(rows[0]["is_member"])

    async def _segment(self, key: tuple[UUID, str]) -> Row | None:
        organization, name = key
        rows = await self._postgres.rows(_sql["segment"], {"organization": organization, "name": name})
        return rows[0] if rows else None

    async def warmup_began(self, organization: UUID, domain: str) -> datetime | None:
        """Return when a sending domain was created, aware; None if the platform does not know it."""
        return await self._domains.get((organization, domain))

    async def _domain(self, key: tuple[UUID, str]) -> datetime | None:
        organization, domain = key
        rows = await self._postgres.rows(_sql["domain"], {"organization": organization, "domain": domain})
        created: datetime | None = rows[0]["created_at"]
        return created.replace(tzinfo=UTC) if created else None

    def _by_id(self, statement: str) -> Callable[[list[_Key]], Any]:
        async def find(keys: list[_Key]) -> Sequence[Row | None]:
            wanted = list(set(keys))
            parameters = {"organizations": [each for each, _ in wanted], "ids": [each for _, each in wanted]}
            rows = await self._postgres.rows(_sql[statement], parameters, bare=True)
            by_key = {(row["organization_id"], row["id"]): row for row in rows}
            return [by_key.get(each) for each in keys]

        return find
