"""Sample organizations, their contacts, and the messages that they send."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from uuid import UUID

# The bits that make a random number of 128 bits a uuid of version 4, as the platform's ids are.
_UUID_MASK = ~(0xF << 76 | 0x3 << 62)
_UUID_BITS = 0x4 << 76 | 0x2 << 62

# Contacts of each organization that no sample event is of: their events arrive late.
_LATECOMERS = 3

_WORKDAYS = (0, 1, 2, 3, 4)
_EVERY_DAY = (*_WORKDAYS, 5, 6)


@dataclass(frozen=True)
class Rates:
    """How recipients react, as shares: of messages sent, of messages delivered, of messages opened.

    `opens` is False for a channel that cannot tell that a message was read.
    """

    bounced: float
    lost: float
    opened: float
    clicked: float
    complained: float
    unsubscribed: float
    opens: bool = True


RATES = {
    "email": Rates(bounced=0.022, lost=0.004, opened=0.36, clicked=0.17, complained=0.0008, unsubscribed=0.008),
    "sms": Rates(bounced=0.03, lost=0.01, opened=0.09, clicked=0.9, complained=0.001, unsubscribed=0.05, opens=False),
    "push": Rates(bounced=0.045, lost=0.02, opened=0.11, clicked=0.4, complained=0.0002, unsubscribed=0.01),
}


@dataclass(frozen=True)
class Mailing:
    """Messages of one kind: to which share of the contacts, on which weekdays (Monday is 0), from which hour.

    Without an hour they are sent all day long. `source` is set where they belong to no campaign.
    """

    channel: str
    share: float
    weekdays: Sequence[int]
    hour: int | None = None
    source: str | None = None


# The smallest organizations have the first of these, the largest all of them.
_MAILINGS = (
    Mailing("email", 0.012, _EVERY_DAY, source="journey"),
    Mailing("email", 0.004, _EVERY_DAY, source="campaign:welcome"),
    Mailing("email", 0.17, (1,), hour=8),
    Mailing("email", 0.12, (3,), hour=13),
    Mailing("push", 0.03, _WORKDAYS),
    Mailing("sms", 0.04, (2, 5), hour=10),
    Mailing("email", 0.09, (2, 4), hour=15),
    Mailing("email", 0.014, _EVERY_DAY),
)
# Whether a mailing's sends, and what recipients did, name the campaign as campaign:<uuid>: mailings take turns.
_SPELLINGS = ((False, False), (True, False), (False, True), (True, True))


@dataclass(frozen=True)
class Campaign:
    """A mailing of one organization, on its weekdays, with the `event_source` of its sends and of what recipients did.

    Both name one campaign, perhaps in its two spellings, as on the platform.
    """

    mailing: Mailing
    weekdays: Sequence[int]
    source: str
    tracked_source: str


@dataclass(frozen=True)
class Profile:
    """What is known of an organization whatever the seed. `name` is for display only; the platform has none.

    `shift` is by how many days its week differs from that of the mailings.
    """

    name: str
    contacts: int
    mailings: int
    shift: int = 0


PROFILES = (
    Profile("Driftmoor", 29_000, 8),
    Profile("Quillbarrow", 8_000, 8, shift=1),
    Profile("Umberlane", 2_600, 7, shift=2),
    Profile("Pebblewick", 900, 7, shift=4),
    Profile("Tansy Forge", 250, 6),
    Profile("Morrowmill", 105, 5, shift=6),
)
QUICK_PROFILES = (PROFILES[2], PROFILES[4], PROFILES[5])


@dataclass(frozen=True)
class Organization:
    """An organization of the sample. Contacts are uuids in hexadecimal, as COPY reads them."""

    name: str
    id: UUID
    contacts: Sequence[str]
    latecomers: Sequence[str]
    campaigns: Sequence[Campaign]
    random: Random


def organizations(profiles: Sequence[Profile], seed: int = 1) -> list[Organization]:
    """Return the organizations, the same for the same seed; what each does depends on none of the others."""
    return [_organization(profile, Random(f"{seed}/{profile.name}")) for profile in profiles]  # noqa: S311 - repeatable


def random_uuid(random: Random) -> str:
    """Return the next uuid of `random`, in hexadecimal."""
    return f"{random.getrandbits(128) & _UUID_MASK | _UUID_BITS:032x}"


def _organization(profile: Profile, random: Random) -> Organization:
    organization_id = UUID(random_uuid(random))
    contacts = [random_uuid(random) for _ in range(profile.contacts + _LATECOMERS)]
    return Organization(
        name=profile.name,
        id=organization_id,
        contacts=contacts[_LATECOMERS:],
        latecomers=contacts[:_LATECOMERS],
        campaigns=[_campaign(number, profile.shift, random) for number in range(profile.mailings)],
        random=random,
    )


def _campaign(number: int, shift: int, random: Random) -> Campaign:
    mailing = _MAILINGS[number]
    weekdays = mailing.weekdays if mailing.hour is None else [(weekday + shift) % 7 for weekday in mailing.weekdays]
    if mailing.source is not None:
        # What the provider reports of a journey's messages does not say which journey it was.
        tracked = "delivery:webhook" if mailing.source == "journey" else mailing.source
        return Campaign(mailing, weekdays, mailing.source, tracked)
    campaign = UUID(random_uuid(random))
    sends, tracked = (f"campaign:{campaign}" if prefixed else str(campaign) for prefixed in _SPELLINGS[number % 4])
    return Campaign(mailing, weekdays, sends, tracked)
