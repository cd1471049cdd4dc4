"""Emails: from a message, a contact and a template to what an email provider sends."""

from mauntic_jobs.delivery.addresses import parse_address
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.render.lookups import Lookups, StoredTemplate
from mauntic_jobs.delivery.render.mime import Email, message_id
from mauntic_jobs.delivery.render.personalize import Filler, Personalization, first, tags_of
from mauntic_jobs.delivery.render.plain_text import is_html, text_of
from mauntic_jobs.delivery.render.renderer import Draft, WritingError
from mauntic_jobs.settings.types import MessageLimits
from mauntic_jobs.timekeeping import clock


class EmailRenderer:
    """Writes emails."""

    def __init__(self, lookups: Lookups, limits: MessageLimits) -> None:
        self._personalization = Personalization(lookups)
        self._limits = limits

    async def write(self, message: Message, sender: str | None) -> Draft[Email]:
        """Return the draft, its content an Email. Raises JobFailedError, which says what is wrong or missing."""
        template = await self._personalization.template(message)
        subject = first(message.subject, template.subject)
        html, text = _content(message, template)
        contact = await self._personalization.contact(message, message.email_address, subject, html, text)
        address = first(message.email_address, contact["email"] if contact else None)
        if address is None:
            raise WritingError("neither the message nor its contact has an email address")
        origin = first(message.sender, sender)
        if origin is None:
            raise WritingError("neither the message nor the provider says whom the email is from")
        if html is None and text is None:
            raise WritingError("neither the message nor a template has content")
        filler = Filler(message, contact, self._limits)
        html = None if html is None else filler.fill(html, escape=True)
        text = text_of(html or "", filler.budget) if text is None else filler.fill(text)
        from_, to = parse_address(origin), parse_address(address)
        email = Email(
            sender=from_,
            recipient=to,
            subject=filler.fill(subject or ""),
            message_id=message_id(message.key, message.organization, from_.domain),
            date=clock.now(),
            html=html,
            text=text,
            reply_to=parse_address(message.reply_to) if message.reply_to else None,
            unsubscribe_url=message.unsubscribe_url or None,
            headers={name: value for name, value in (message.headers or {}).items() if value and value.strip()},
            tags=tags_of(message),
        )
        return Draft(
            to.plain,
            email,
            email.message_id,
            from_.domain,
            written=address if address != to.plain else None,
            unknown_fields=filler.unknown_fields,
        )

    def signed(self, draft: Draft[Email], message_id: str | None) -> Email:
        """Return the email with the Message-ID of the ledger."""
        email = draft.content
        return email if message_id in (None, draft.message_id) else email._replace(message_id=message_id)


def _content(message: Message, template: StoredTemplate) -> tuple[str | None, str | None]:
    """Return HTML and text: the message's own, or else the template's."""
    own = first(message.body)
    html = first(message.html, own if own and is_html(own) else None)
    text = first(message.text, own if own and own != html else None)
    if html is None and text is None:
        return first(template.html), first(template.text)
    return html, text
