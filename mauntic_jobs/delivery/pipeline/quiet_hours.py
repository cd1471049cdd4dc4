"""Messages in the quiet hours of their recipients: until when they wait."""

import random
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from mauntic_jobs.delivery.ledger.waits import Wait
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.render.lookups import Lookups
from mauntic_jobs.job import Row
from mauntic_jobs.settings.quiet_hours import QuietHours

# What has waited is not due in the same second.
_SPREAD_SECONDS = 60.0
# As forms and CRMs write the distance to UTC. With a name, such as `Etc/GMT+5`, the sign means the opposite.
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?([0-5]\d))?")
_MAX_OFFSET_HOURS = 14
# Files beside the time zones: this machine's own, and what a new machine has.
_NO_PLACES = {"localtime", "Factory", "posixrules"}


class QuietTimes:
    """The quiet hours by channel. `zone` is that of contacts whose own is not known."""

    def __init__(self, lookups: Lookups, hours: Mapping[str, QuietHours], zone: ZoneInfo) -> None:
        self._lookups = lookups
        self._hours = hours
        self._zone = zone

    async def wait_of(self, message: Message, channel: str, now: datetime) -> tuple[float, str] | None:
        """Return for how many seconds a message waits and why, or None if it may be sent, as transactional ones may."""
        hours = self._hours.get(channel)
        if hours is None or message.is_transactional:
            return None
        contact = None
        if message.contact_id is not None:
            contact = await self._lookups.contact(message.organization_id, message.contact_id)
        zone, name = self._zone_of(contact)
        end = hours.end_after(now, zone)
        if end is None:
            return None
        seconds = (end - now).total_seconds() + random.uniform(0.0, _SPREAD_SECONDS)  # noqa: S311 - to spread
        return seconds, f"{Wait.QUIET_HOURS}: {hours} in {name}"

    def _zone_of(self, contact: Row | None) -> tuple[tzinfo, str]:
        """Return the time zone of a contact, and its name with where it is from."""
        fields = contact["custom_fields"] if contact else None
        given = fields.get("timezone") if isinstance(fields, dict) else None
        if given is None:
            return self._zone, f"{self._zone.key}, for its contact has no time zone"
        zone = read_zone(given) if isinstance(given, str) else None
        if zone is None:
            return self._zone, f"{self._zone.key}, for the time zone of its contact is not known"
        return zone, str(zone)


def read_zone(text: str) -> tzinfo | None:
    """Return the time zone of a text like `Europe/Berlin` or, as a distance to UTC, `+02:00`; None for any other."""
    name = text.strip()
    offset = _OFFSET.fullmatch(name.upper().replace(" ", ""))
    if offset is not None:
        sign, hours, minutes = offset.groups()
        distance = timedelta(hours=int(hours), minutes=int(minutes or 0))
        if distance > timedelta(hours=_MAX_OFFSET_HOURS):
            return None
        return timezone(distance if sign == "+" else -distance)
    known = _zone_names().get(name.casefold().replace(" ", "_"))
    return ZoneInfo(known) if known else None


@cache
def _zone_names() -> Mapping[str, str]:
    """Return the names of all time zones by how they compare, whatever their case."""
    return {name.casefold(): name for name in available_timezones() - _NO_PLACES}
