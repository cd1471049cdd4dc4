"""Personalization: the contact and the template of a message, and the one rendered with the other."""

from collections.abc import Mapping, Set as AbstractSet
from uuid import UUID

from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.render.lookups import Lookups, StoredTemplate
from mauntic_jobs.delivery.render.renderer import WritingError
from mauntic_jobs.delivery.render.templates.nodes import LONGEST_UNKNOWN
from mauntic_jobs.delivery.render.templates.parser import compile_template
from mauntic_jobs.delivery.render.text_budget import TextBudget
from mauntic_jobs.job import Row
from mauntic_jobs.settings.types import MessageLimits
from mauntic_jobs.stores.postgres.values import unreadable

_URL = "unsubscribeUrl"
_COMPANY = frozenset({"company", "contact.company"})
_NO_TEMPLATE = StoredTemplate(None, None, None)


class Personalization:
    """Looks up what messages refer to."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    async def template(self, message: Message) -> StoredTemplate:
        """Return the template of a message, an empty one if it names none. Raises WritingError if it does not exist."""
        if message.template_id is None:
            return _NO_TEMPLATE
        template = await self._lookups.template(message.organization_id, message.template_id)
        if template is None:
            raise WritingError(f"the organization has no template {message.template_id}")
        return template

    async def contact(self, message: Message, address: str | None, *sources: str | None) -> Row | None:
        """Return the contact, if the message names one and its `address` is missing or these templates need it.

        Beside its columns it has the `company` and the `segments` that the templates name. Raises JobFailedError for
        one that cannot be read.
        """
        templates = [compile_template(source) for source in sources if source and "{{" in source]
        known = {*(message.template_data or ()), _URL}
        needed = not address or any(each.segments or not each.names <= known for each in templates)
        if message.contact_id is None or not needed:
            return None
        contact = await self._lookups.contact(message.organization_id, message.contact_id)
        if contact is None:
            return None
        problem = unreadable(contact)
        if problem:
            raise WritingError(f"the contact {message.contact_id} cannot be read: {problem}")
        company = None
        if any(_COMPANY & each.paths for each in templates):
            company = await self._lookups.company(message.organization_id, message.contact_id)
        names = {name for each in templates for name in each.segments}
        return {**contact, "company": company, "segments": await self._segments(message, message.contact_id, names)}

    async def _segments(self, message: Message, contact: UUID, names: AbstractSet[str]) -> dict[str, bool | None]:
        """Return for each segment whether the contact belongs to it, or None if there is no such segment."""
        return {name: await self._lookups.is_member(message.organization_id, name, contact) for name in sorted(names)}


class Filler:
    """Fills templates with a message's data and its contact, within one budget. To be made after all lookups."""

    def __init__(self, message: Message, contact: Row | None, limits: MessageLimits) -> None:
        self.budget = TextBudget(limits)
        self._data = _data_of(message, contact)
        segments: Mapping[str, bool | None] = contact["segments"] if contact else {}
        self._segments = {name for name, is_member in segments.items() if is_member}
        self._unknown: dict[str, None] = {
            f"segment {name}"[:LONGEST_UNKNOWN]: None for name, is_member in segments.items() if is_member is None
        }

    def fill(self, source: str, *, escape: bool = False) -> str:
        """Return a template filled with the data; `escape` makes values fit for HTML. Raises TemplateError."""
        if "{{" not in source:
            return source
        return compile_template(source).render(
            self._data, escape=escape, budget=self.budget, segments=self._segments, unknown=self._unknown
        )

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """The fields that the templates filled so far name, and that neither the message nor the contact has."""
        return tuple(self._unknown)


def _data_of(message: Message, contact: Row | None) -> Mapping[str, object]:
    """Return what a template may name: the contact's fields and custom fields, and over both the message's data."""
    if contact is None:
        return {**(message.template_data or {}), _URL: message.unsubscribe_url}
    custom = contact["custom_fields"] if isinstance(contact["custom_fields"], dict) else {}
    name = " ".join(each for each in (contact["first_name"], contact["last_name"]) if each)
    fields = {
        "id": str(contact["id"]),
        "email": contact["email"],
        "phone": contact["phone"],
        "firstName": contact["first_name"],
        "lastName": contact["last_name"],
        "name": name or custom.get("name"),
        "company": contact["company"] or custom.get("company"),
        "status": contact["status"],
        "stage": contact["stage"],
    }
    own = {**custom, **fields, "customFields": custom, "custom": custom}
    return {**own, "contact": own, **(message.template_data or {}), _URL: message.unsubscribe_url}


def tags_of(message: Message) -> Mapping[str, str]:
    """Return what tells a provider, and later its events, which message it is."""
    named = {
        "deliveryId": message.key,
        "organizationId": message.organization,
        "jobId": message.job_id,
        "contactId": message.contact_id,
        "campaignId": message.campaign_id,
    }
    return {name: str(value) for name, value in named.items() if value}


def first(*texts: str | None) -> str | None:
    """Return the first that is neither absent nor empty."""
    for text in texts:
        if text:
            return text
    return None
