"""What every channel's writer needs: the contact and the template of a message, and the one rendered with the other."""

from collections.abc import Mapping
from typing import Any

from mauntic_jobs.delivery.lookups import Lookups, StoredTemplate
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.templates import compile_template
from mauntic_jobs.delivery.text_budget import TextBudget
from mauntic_jobs.delivery.writing import WritingError
from mauntic_jobs.job import Row
from mauntic_jobs.stores.postgres_values import unreadable

_URL = "unsubscribeUrl"
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
        """Return the contact, if the message names one and its `address` is missing or these templates need fields.

        Raises WritingError for one that cannot be read.
        """
        if message.contact_id is None or (address and _names(*sources) <= {*(message.template_data or ()), _URL}):
            return None
        contact = await self._lookups.contact(message.organization_id, message.contact_id)
        problem = unreadable(contact) if contact else None
        if problem:
            raise WritingError(f"the contact {message.contact_id} cannot be read: {problem}")
        return contact


def data_of(message: Message, contact: Row | None) -> Mapping[str, Any]:
    """Return what a template may name: the contact's fields and custom fields, and over both the message's data."""
    if contact is None:
        return {**(message.template_data or {}), _URL: message.unsubscribe_url}
    custom = contact["custom_fields"] if isinstance(contact["custom_fields"], dict) else {}
    fields = {
        "id": str(contact["id"]),
        "email": contact["email"],
        "phone": contact["phone"],
        "firstName": contact["first_name"],
        "lastName": contact["last_name"],
        "status": contact["status"],
        "stage": contact["stage"],
    }
    own = {**custom, **fields, "customFields": custom}
    return {**own, "contact": own, **(message.template_data or {}), _URL: message.unsubscribe_url}


def tags_of(message: Message) -> Mapping[str, str]:
    """Return what tells a provider, and later its events, which message it is."""
    named = {
        "deliveryId": message.key,
        "organizationId": str(message.organization_id),
        "jobId": message.job_id,
        "contactId": message.contact_id,
        "campaignId": message.campaign_id,
    }
    return {name: str(value) for name, value in named.items() if value}


def rendered(source: str, data: Mapping[str, Any], budget: TextBudget, *, escape: bool = False) -> str:
    """Return a template filled with the data; `escape` makes values fit for HTML. Raises TemplateError."""
    return compile_template(source).render(data, escape=escape, budget=budget) if "{{" in source else source


def first(*texts: str | None) -> str | None:
    """Return the first that is neither absent nor empty."""
    return next((text for text in texts if text), None)


def _names(*sources: str | None) -> set[str]:
    """Return what the templates may take from the data."""
    return {name for source in sources if source and "{{" in source for name in compile_template(source).names}
