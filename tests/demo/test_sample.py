"""The sample is a believable month: it has every trap of the real data, and the rollup counts it right."""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from mauntic_jobs.demo.activity import simulate
from mauntic_jobs.demo.organizations import PROFILES, QUICK_PROFILES, Profile, organizations
from mauntic_jobs.demo.sample import DAYS, is_empty, late_events, load_sample
from mauntic_jobs.demo.timeline import Timeline
from mauntic_jobs.job import Row
from mauntic_jobs.runner.backfill import run_all, split
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Unit, parse_last
from tests.support import Event, reference_rollups, request, stored_rollups, utc

_NOW = utc("2026-10-20T09:30")
_FUNNEL = ("sent", "delivered", "opened", "clicked")
# A text message does not tell that it was read.
_SMS_FUNNEL = ("sent", "delivered", "clicked")


def _load(session: Session, *, days: int = 7) -> list[Row]:
    load_sample(session, _NOW, days=days, profiles=QUICK_PROFILES)
    return session.rows(b"SELECT * FROM analytics.contact_activity ORDER BY created_at, id")


def _events(rows: Sequence[Row]) -> list[Event]:
    return [
        Event(row["organization_id"], row["contact_id"], row["event_type"], row["created_at"].replace(tzinfo=UTC))
        for row in rows
    ]


def _text(*, now: str = "2026-10-20T09:30", seed: int = 1, profiles: Sequence[Profile] = QUICK_PROFILES) -> str:
    start = Unit.DAY.floor(utc(now)) - timedelta(days=7)
    timeline = Timeline(start, utc(now))
    return "".join(text for text, _ in simulate(organizations(profiles, seed), timeline, start.weekday()))


def _campaign(source: str | None) -> UUID | None:
    try:
        return UUID((source or "").removeprefix("campaign:"))
    except ValueError:
        return None


def test_the_rollup_of_the_sample_is_what_python_counts(settings: Settings, session: Session) -> None:
    rows = _load(session)
    assert all(report.error is None for report in run_all(split(request(settings, parse_last("7d", _NOW)))))
    assert stored_rollups(session) == reference_rollups(_events(rows))
    assert any(count > distinct for count, distinct in stored_rollups(session).values())


def test_what_was_loaded_is_what_the_summary_says(session: Session) -> None:
    summary = load_sample(session, _NOW, days=7, profiles=QUICK_PROFILES)
    rows = session.rows(b"SELECT organization_id, created_at FROM analytics.contact_activity")
    assert {each.id: each.events for each in summary.organizations} == Counter(row["organization_id"] for row in rows)
    assert [each.name for each in summary.organizations] == ["Umberlane", "Tansy Forge", "Morrowmill"]
    times = [row["created_at"].replace(tzinfo=UTC) for row in rows]
    assert summary.start == utc("2026-10-13T00:00") <= min(times)
    assert max(times) < summary.end == _NOW


def test_every_campaign_has_a_funnel(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        rows = _load(session, days=DAYS)
    contacts: dict[tuple[UUID, str], dict[str, set[UUID]]] = defaultdict(lambda: defaultdict(set))
    events: Counter[tuple[UUID, str]] = Counter()
    for row in rows:
        campaign = _campaign(row["event_source"])
        if campaign:
            channel, _, stage = row["event_type"].partition("_")
            contacts[campaign, channel][stage].add(row["contact_id"])
            events[campaign, stage] += 1
    assert len(contacts) >= 6
    assert {channel for _, channel in contacts} == {"email", "sms", "push"}
    for (campaign, channel), stages in contacts.items():
        assert events[campaign, "sent"] >= events[campaign, "delivered"] + events[campaign, "bounced"]
        for earlier, later in pairwise(_SMS_FUNNEL if channel == "sms" else _FUNNEL):
            assert stages[later] <= stages[earlier], f"{channel} {later}"
    seen = {row["event_type"] for row in rows}
    assert {f"email_{what}" for what in (*_FUNNEL, "bounced", "complained", "unsubscribed")} <= seen
    assert {"page_viewed", "form_submitted"} <= seen


def test_sources_of_every_kind_are_there_and_one_campaign_has_both_spellings(session: Session) -> None:
    sources = {row["event_source"] for row in _load(session)}
    assert {"journey", "delivery:webhook", "campaign:welcome", None} <= sources
    bare = {source for source in sources if source and _campaign(source) and ":" not in source}
    prefixed = {source.removeprefix("campaign:") for source in sources if source and _campaign(source)} - {None}
    assert bare
    assert {source for source in sources if source and source.removeprefix("campaign:") in bare and ":" in source}
    assert prefixed - bare


def test_events_lie_on_both_sides_of_every_midnight(session: Session) -> None:
    times = {row["created_at"] for row in _load(session)}
    for day in range(14, 21):
        midnight = utc(f"2026-10-{day}T00:00").replace(tzinfo=None)
        assert {midnight - timedelta(milliseconds=100), midnight} <= times


def test_some_opens_and_clicks_come_on_another_day_than_the_send(session: Session) -> None:
    rows = _load(session)
    sent = defaultdict(list)
    for row in rows:
        if row["event_type"] == "email_sent":
            sent[row["contact_id"]].append(row["created_at"])
    waits = [
        row["created_at"] - sent[row["contact_id"]][0]
        for row in rows
        if row["event_type"] in ("email_opened", "email_clicked")
    ]
    assert min(waits) > timedelta()
    assert sum(wait > timedelta(days=1) for wait in waits) > 20


def test_ids_are_random_uuids(session: Session) -> None:
    rows = _load(session)
    ids = {row[name] for row in rows for name in ("id", "organization_id", "contact_id")}
    assert {(each.version, each.variant) for each in ids} == {(4, "specified in RFC 4122")}


def test_the_same_seed_gives_the_same_events_and_another_gives_others() -> None:
    assert _text() == _text()
    assert _text() != _text(seed=2)


def test_what_one_organization_does_depends_on_no_other() -> None:
    alone = set(_text(profiles=PROFILES[-1:]).splitlines())
    assert alone
    assert alone <= set(_text().splitlines())


def test_lines_come_in_the_order_of_their_times() -> None:
    times = [line.split("\t")[0] for line in _text().splitlines()]
    assert times == sorted(times)


@pytest.mark.parametrize("now", ["2026-10-20T00:00", "2026-10-20T00:00:00.001", "2026-10-20T23:59:59.999999"])
def test_a_sample_may_end_at_any_instant_of_a_day(now: str) -> None:
    lines = _text(now=now).splitlines()
    assert lines[-1] < f"{utc(now):%Y-%m-%d %H:%M:%S.%f}"
    assert lines[0].startswith("2026-10-13 ")


def test_late_events_are_of_yesterday_and_of_contacts_that_had_none(session: Session) -> None:
    before = {row["id"] for row in _load(session)}
    number = late_events(session, _NOW, profiles=QUICK_PROFILES)
    rows = session.rows(b"SELECT * FROM analytics.contact_activity")
    late = [row for row in rows if row["id"] not in before]
    assert len(late) == number
    assert {row["created_at"].date() for row in late} == {utc("2026-10-19T00:00").date()}
    known = {row["contact_id"] for row in rows if row["id"] in before}
    assert known.isdisjoint(row["contact_id"] for row in late)


def test_a_load_that_fails_leaves_nothing(session: Session) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_sample(session, _NOW, days=7, profiles=QUICK_PROFILES, on_day=fail)
    assert is_empty(session)


def test_the_whole_month_is_large_and_uneven_and_loads_in_seconds(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        started = time.monotonic()
        summary = load_sample(session, _NOW)
        # Some three seconds on an idle machine; this is far beyond any noise.
        assert time.monotonic() - started < 30
    a_day = [organization.events / (DAYS + 1) for organization in summary.organizations]
    assert 400_000 < summary.events < 600_000
    assert a_day[0] > 9_000
    assert 20 < a_day[-1] < 40
    assert a_day == sorted(a_day, reverse=True)
