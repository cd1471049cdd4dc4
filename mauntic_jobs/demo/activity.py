"""The sample's events, simulated day by day: who is sent what, who opens and clicks, who visits the website."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from mauntic_jobs.demo.organizations import RATES, Campaign, Organization, random_uuid
from mauntic_jobs.demo.timeline import DAY, HOUR, MINUTE, SECOND, Timeline

_BY_WEEKDAY = (1.0, 1.08, 1.05, 1.0, 0.92, 0.55, 0.48)
_BY_HOUR = (2, 1, 1, 1, 1, 2, 5, 10, 18, 24, 26, 24, 20, 22, 24, 23, 20, 17, 15, 14, 13, 10, 6, 3)
_HOURS = range(24)
_CUMULATED_HOURS = list(accumulate(_BY_HOUR))

_BROADCAST = 100 * MINUTE
_LOG_MEDIAN_WAIT = 16.2  # e ** 16.2 ms are 3 hours
_REOPENED = 0.32
_RECLICKED = 0.25
_VISITS = 0.055
_NEXT_PAGE = 0.4
_FORM = 0.03
_PATHS = ("/", "/pricing", "/blog", "/product", "/contact")
_NULL = r"\N"


def simulate(
    organizations: Sequence[Organization], timeline: Timeline, weekday: int
) -> Iterator[tuple[str, list[int]]]:
    """Yield each day's lines, and how many events that day's doings lead to, by organization.

    `weekday` is that of the first day. Only the days to come are held in memory.
    """
    for day in timeline.days:
        added = [timeline.added]
        for organization in organizations:
            _live(organization, timeline, day, (weekday + day) % 7)
            added.append(timeline.added)
        yield timeline.take(day), [after - before for before, after in pairwise(added)]


def _live(organization: Organization, timeline: Timeline, day: int, weekday: int) -> None:
    for campaign in organization.campaigns:
        if weekday in campaign.weekdays:
            _send(organization, campaign, timeline, day, weekday)
    _visit(organization, timeline, day, weekday)
    _stay_up(organization, timeline, day)


def _send(organization: Organization, campaign: Campaign, timeline: Timeline, day: int, weekday: int) -> None:
    mailing, random = campaign.mailing, organization.random
    if mailing.hour is None:
        recipients = _some(organization, mailing.share * _BY_WEEKDAY[weekday])
        times = _times(organization, day, len(recipients))
    else:
        share = mailing.share * random.uniform(0.75, 1.15)
        recipients = random.sample(organization.contacts, round(share * len(organization.contacts)))
        begin = day * DAY + mailing.hour * HOUR + random.randrange(HOUR)
        times = [begin + int(random.random() * _BROADCAST) for _ in recipients]
    fates = _Fates(organization, campaign, timeline)
    for contact, at in zip(recipients, times, strict=True):
        fates.send(contact, at)


class _Fates:
    """What becomes of the messages of one campaign."""

    def __init__(self, organization: Organization, campaign: Campaign, timeline: Timeline) -> None:
        channel = campaign.mailing.channel
        self._random = organization.random
        self._rates = RATES[channel]
        self._timeline = timeline
        self._sent, self._delivered, self._bounced = (
            _rest(organization, f"{channel}_{what}", campaign.source) for what in ("sent", "delivered", "bounced")
        )
        self._opened, self._complained, self._unsubscribed = (
            _rest(organization, f"{channel}_{what}", campaign.tracked_source)
            for what in ("opened", "complained", "unsubscribed")
        )
        link = '{"url": "https://example.com/offer"}'
        self._clicked = _rest(organization, f"{channel}_clicked", campaign.tracked_source, link)

    def send(self, contact: str, at: int) -> None:
        """Send a message, and let happen what follows: each later stage comes after the one before it."""
        rates, chance = self._rates, self._random.random
        self._add(at, contact, self._sent)
        arrived = at + 900 + int(chance() * 40 * SECOND)
        fate = chance()
        if fate < rates.bounced + rates.lost:
            if fate < rates.bounced:
                self._add(arrived, contact, self._bounced)
            return
        self._add(arrived, contact, self._delivered)
        if chance() < rates.opened:
            self._open(contact, arrived)
        if chance() < rates.complained:
            self._add(self._later(arrived), contact, self._complained)

    def _open(self, contact: str, arrived: int) -> None:
        rates, chance = self._rates, self._random.random
        opened = self._later(arrived)
        if rates.opens:
            self._add(opened, contact, self._opened)
            while chance() < _REOPENED:
                self._add(self._later(opened), contact, self._opened)
        if chance() < rates.clicked:
            clicked = opened + 3 * SECOND + int(chance() * 2 * MINUTE)
            self._add(clicked, contact, self._clicked)
            while chance() < _RECLICKED:
                self._add(self._later(clicked), contact, self._clicked)
        if chance() < rates.unsubscribed:
            self._add(opened + 20 * SECOND, contact, self._unsubscribed)

    def _later(self, at: int) -> int:
        """Return a time hours later as a rule, but seconds or days later at times."""
        return at + SECOND + int(self._random.lognormvariate(_LOG_MEDIAN_WAIT, 1.5))

    def _add(self, at: int, contact: str, rest: str) -> None:
        self._timeline.add(at, random_uuid(self._random), contact, rest)


def _visit(organization: Organization, timeline: Timeline, day: int, weekday: int) -> None:
    random = organization.random
    pages = [_rest(organization, "page_viewed", _NULL, f'{{"path": "{path}"}}') for path in _PATHS]
    form = _rest(organization, "form_submitted", _NULL, '{"form": "contact"}')
    visitors = _some(organization, _VISITS * _BY_WEEKDAY[weekday] * random.uniform(0.85, 1.15))
    for contact, begin in zip(visitors, _times(organization, day, len(visitors)), strict=True):
        at = begin
        timeline.add(at, random_uuid(random), contact, random.choice(pages))
        while random.random() < _NEXT_PAGE:
            at += int(random.random() * 4 * MINUTE)
            timeline.add(at, random_uuid(random), contact, random.choice(pages))
        if random.random() < _FORM:
            timeline.add(at + MINUTE, random_uuid(random), contact, form)


def _stay_up(organization: Organization, timeline: Timeline, day: int) -> None:
    """Let a visitor be there at midnight: the last page of this day, the form at the first instant of the next."""
    random = organization.random
    contact, midnight = random.choice(organization.contacts), (day + 1) * DAY
    page = _rest(organization, "page_viewed", _NULL, '{"path": "/contact"}')
    form = _rest(organization, "form_submitted", _NULL, '{"form": "contact"}')
    timeline.add(midnight - 100, random_uuid(random), contact, page)
    timeline.add(midnight, random_uuid(random), contact, form)


def _some(organization: Organization, share: float) -> list[str]:
    """Choose contacts, some of them more than once: the first of the list are the most active."""
    random, contacts = organization.random, organization.contacts
    number = int(share * len(contacts) + random.random())
    return [contacts[int(random.random() ** 1.5 * len(contacts))] for _ in range(number)]


def _times(organization: Organization, day: int, number: int) -> list[int]:
    random = organization.random
    hours = random.choices(_HOURS, cum_weights=_CUMULATED_HOURS, k=number)
    return [day * DAY + hour * HOUR + int(random.random() * HOUR) for hour in hours]


def _rest(organization: Organization, event_type: str, source: str, data: str = _NULL) -> str:
    return f"{organization.id.hex}\t{event_type}\t{source}\t{data}\n"
