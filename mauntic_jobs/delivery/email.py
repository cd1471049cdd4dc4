"""Emails: from a message, a contact and a template to what an email provider sends."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from mauntic_jobs import clock
from mauntic_jobs.delivery.addresses import parse_address
from mauntic_jobs.delivery.lookups import Lookups, StoredTemplate
from mauntic_jobs.delivery.mime import Email, message_id
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.plaintext import text_of
from mauntic_jobs.delivery.templates import compile_template
from mauntic_jobs.delivery.writing import Draft, WritingError
from mauntic_jobs.job import Row

_TAG = re.compile(r"<[a-zA-Z!/][^>]*>")
_URL = "unsubscribeUrl"
_NO_TEMPLATE = StoredTemplate(None, None, None)


class EmailWriter:
    """Writes emails."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    async def write(self, message: Message, sender: str | None) -> Draft:
        """Return the draft, its content an Email. Raises JobFailedError, which says what is wrong or missing."""
        template = await self._template(message)
        subject = _first(message.subject, template.subject)
        html, text = _content(message, template)
        contact = await self._contact(message, _names(subject, html, text))
        address = _first(message.email_address, contact["email"] if contact else None)
        if address is None:
            raise WritingError("neither the message nor its contact has an email address")
        origin = _first(message.sender, sender)
        if origin is None:
            raise WritingError("neither the message nor the provider says whom the email is from")
        if html is None and text is None:
            raise WritingError("neither the message nor a template has content")
        data = _data(message, contact)
        html = None if html is None else _rendered(html, data, escape=True)
        text = text_of(html or "") if text is None else _rendered(text, data, escape=False)
        from_, to = parse_address(origin), parse_address(address)
        email = Email(
            sender=from_,
            recipient=to,
            subject=_rendered(subject or "", data, escape=False),
            message_id=message_id(message.key, message.organization_id, from_.domain),
            date=clock.now(),
            html=html,
            text=text,
            reply_to=parse_address(message.reply_to) if message.reply_to else None,
            unsubscribe_url=message.unsubscribe_url or None,
            headers=message.headers or {},
        )
        return Draft(to.spec, email, email.message_id, from_.domain)

    def signed(self, draft: Draft, message_id: str | None) -> Email:
        """Return the email with the Message-ID of the ledger."""
        email: Email = draft.content
        return email if message_id in (None, draft.message_id) else dataclasses.replace(email, message_id=message_id)

    async def _template(self, message: Message) -> StoredTemplate:
        if message.template_id is None:
            return _NO_TEMPLATE
        template = await self._lookups.template(message.organization_id, message.template_id)
        if template is None:
            raise WritingError(f"the organization has no template {message.template_id}")
        return template

    async def _contact(self, message: Message, names: set[str]) -> Row | None:
        """Return the contact, if its address or its fields are needed."""
        if message.contact_id is None or (message.email_address and names <= {*(message.template_data or ()), _URL}):
            return None
        return await self._lookups.contact(message.organization_id, message.contact_id)


def _names(*sources: str | None) -> set[str]:
    """Return what the templates may take from the data."""
    return {name for source in sources if source and "{{" in source for name in compile_template(source).names}


def _content(message: Message, template: StoredTemplate) -> tuple[str | None, str | None]:
    """Return HTML and text: the message's own, or else the template's."""
    own = _first(message.body)
    html = _first(message.html, own if own and _TAG.search(own) else None)
    text = _first(message.text, own if own and own != html else None)
    if html is None and text is None:
        return _first(template.html), _first(template.text)
    return html, text


def _data(message: Message, contact: Row | None) -> Mapping[str, Any]:
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


def _rendered(source: str, data: Mapping[str, Any], *, escape: bool) -> str:
    return compile_template(source).render(data, escape=escape) if "{{" in source else source


def _first(*texts: str | None) -> str | None:
    return next((text for text in texts if text), None)
