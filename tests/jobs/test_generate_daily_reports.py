from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from mauntic_jobs.cli.job.window import WindowOptions, window_of
from mauntic_jobs.errors import ExitCode, RefusedError, UsageError
from mauntic_jobs.job import Context, JobResult
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.backfill import run_all, split
from mauntic_jobs.runner.request import Report, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from tests.pooler import RANDOM_RUNS
from tests.support import contact, day, organization, request, utc

NAME = "generate-daily-reports"
ACME, GLOBEX = organization(1), organization(2)
SPRING, AUTUMN = UUID("0aBcDeF0-0000-4000-8000-00000000000a"), UUID("0abcdef0-0000-4000-8000-00000000000b")
OCTOBER_5 = date(2026, 10, 5)
CHANNELS = ("email", "sms", "push")
KINDS = ("sent", "delivered", "opened", "clicked", "bounced", "complained", "unsubscribed")
FIGURES = (*KINDS[:3], "unique_opened", "clicked", "unique_clicked", *KINDS[4:])
CAMPAIGN_SOURCES = [str(SPRING), str(SPRING).upper(), f"campaign:{SPRING}", f"CAMPAIGN:{str(SPRING).upper()}"]
NO_UUIDS = [f"{{{SPRING}}}", SPRING.hex, f"{SPRING} ", f" {SPRING}", f"{SPRING}\n", f"g{str(SPRING)[1:]}", "welcome"]
OTHER_SOURCES = [None, "journey", "delivery:webhook", f"campaign:campaign:{SPRING}", f"urn:uuid:{SPRING}"]
OTHER_SOURCES += NO_UUIDS + [f"campaign:{text}" for text in NO_UUIDS] + ["0abcdef-00000-4000-8000-00000000000a"]


class Message(NamedTuple):
    type: str
    at: str | datetime = "2026-10-05T10:00"
    person: int = 1
    source: str | None = str(SPRING)
    owner: UUID = ACME

    @property
    def instant(self) -> datetime:
        return utc(self.at) if isinstance(self.at, str) else self.at


Reports = dict[tuple[UUID, UUID, date], tuple[int, ...]]


def _add(session: Session, *messages: Message) -> None:
    session.copy(
        b"COPY analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)"
        b" FROM STDIN",
        [(each.owner, contact(each.person), each.type, each.source, naive(each.instant)) for each in messages],
    )


def _campaign(source: str | None) -> UUID | None:
    text = (source or "").lower().removeprefix("campaign:")
    try:
        return UUID(text) if str(UUID(text)) == text else None
    except ValueError:
        return None


def _reference(messages: Iterable[Message]) -> Reports:
    """Count the figures in Python, by another way than the product's: of email, or else SMS, or else push."""
    seen: dict[tuple[UUID, UUID, date], dict[str, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
    for each in messages:
        channel, _, kind = each.type.partition("_")
        campaign = _campaign(each.source)
        if campaign and channel in CHANNELS and kind in KINDS:
            seen[campaign, each.owner, each.instant.date()][channel].append((kind, each.person))
    return {key: _figures(next(by[name] for name in CHANNELS if by[name])) for key, by in seen.items()}


def _figures(events: Iterable[tuple[str, int]]) -> tuple[int, ...]:
    people: dict[str, list[int]] = defaultdict(list)
    for kind, person in events:
        people[kind].append(person)
    return tuple(
        len(set(people[name.removeprefix("unique_")])) if name.startswith("unique_") else len(people[name])
        for name in FIGURES
    )


def _stored(session: Session) -> Reports:
    rows = session.rows(b"SELECT * FROM analytics.campaign_daily_stats")
    found = {
        (row["campaign_id"], row["organization_id"], row["date"]): tuple(row[name] for name in FIGURES) for row in rows
    }
    assert len(found) == len(rows)
    return found


def _record(session: Session, campaign: UUID = SPRING, on: date = OCTOBER_5, **figures: int) -> None:
    session.copy(
        f"COPY analytics.campaign_daily_stats (campaign_id, organization_id, date, {', '.join(FIGURES)})"
        " FROM STDIN".encode(),
        [(campaign, ACME, on, *(figures.get(name, 0) for name in FIGURES))],
    )


def _run(settings: Settings, window: Window | None = None, **options: Any) -> Report:
    return run(request(settings, window or day("2026-10-05"), NAME, options=options))


def test_a_campaign_with_email_counts_email_so_that_its_rates_are_of_one_channel(
    settings: Settings, session: Session
) -> None:
    messages = [Message("email_sent", person=number) for number in range(10)]
    messages += [Message("sms_sent", person=number) for number in range(90)]
    messages += [Message("email_opened", person=number) for number in range(5)] + [Message("push_opened", person=99)]
    messages += [Message("sms_sent", source=str(AUTUMN)), Message("push_opened", source=str(AUTUMN))]
    messages += [Message("push_sent", source=str(AUTUMN), owner=GLOBEX)]
    _add(session, *messages)
    report = _run(settings)
    assert _stored(session) == {
        (SPRING, ACME, OCTOBER_5): (10, 0, 5, 5, 0, 0, 0, 0, 0),
        (AUTUMN, ACME, OCTOBER_5): (1, 0, 0, 0, 0, 0, 0, 0, 0),
        (AUTUMN, GLOBEX, OCTOBER_5): (1, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    assert _stored(session) == _reference(messages)
    assert report.counters == {
        "days": 1, "events": 17, "other_channels": 92, "unattributed": 0,
        "inserted": 3, "updated": 0, "removed": 0, "unchanged": 0, "withheld": 0,
    }  # fmt: skip


def test_by_setting_all_channels_feed_the_same_columns_and_a_contact_is_distinct_across_them(
    settings: Settings, session: Session
) -> None:
    messages = [Message(f"{channel}_{kind}") for channel in CHANNELS for kind in KINDS]
    messages += [Message("push_opened", person=2), Message("email_clicked", person=3), Message("email_clicked")]
    _add(session, *messages)
    everything = Settings(**{**settings.model_dump(), "campaign_channels": "all"})
    report = _run(everything)
    assert _stored(session) == {(SPRING, ACME, OCTOBER_5): (3, 3, 4, 2, 5, 2, 3, 3, 3)}
    assert report.counters == {
        "days": 1, "events": 24, "all_channels": 24, "unattributed": 0,
        "inserted": 1, "updated": 0, "removed": 0, "unchanged": 0, "withheld": 0,
    }  # fmt: skip


def test_a_campaign_is_a_uuid_or_one_after_campaign_and_nothing_else(settings: Settings, session: Session) -> None:
    sources = [CAMPAIGN_SOURCES[0], *CAMPAIGN_SOURCES, *OTHER_SOURCES]
    _add(session, *(Message("email_opened", source=source) for source in sources))
    report = _run(settings)
    assert report.exit_code == ExitCode.DONE
    assert _stored(session) == {(SPRING, ACME, OCTOBER_5): (0, 0, 5, 1, 0, 0, 0, 0, 0)}
    assert (report.counters["events"], report.counters["unattributed"]) == (5, len(OTHER_SOURCES))


def test_events_that_are_no_messages_are_not_counted(settings: Settings, session: Session) -> None:
    types = ["page_viewed", "email_open", "fax_sent", "EMAIL_SENT", "email_sent_late", "my_email_sent", "email_"]
    _add(session, *(Message(kind) for kind in types), *(Message(kind, source="journey") for kind in types))
    assert set(_run(settings).counters.values()) == {0, 1}  # one day, and nothing in it
    assert _stored(session) == {}


@pytest.mark.parametrize("midnight", ["2026-10-05", "2026-10-01", "2024-02-29", "2024-03-01", "2026-01-01"])
def test_midnight_belongs_to_the_day_that_begins(direct_settings: Settings, midnight: str) -> None:
    start = utc(midnight)
    before, end = start - timedelta(microseconds=1), start + timedelta(days=1)
    messages = [Message("sms_sent", at) for at in (before, start, end - timedelta(microseconds=1), end)]
    with connect(direct_settings) as session:
        _add(session, *messages)
        _run(direct_settings, Window(start, start + timedelta(seconds=1)))
        assert _stored(session) == _reference(messages[1:3])
        _run(direct_settings, Window(before, start))
        assert _stored(session) == _reference(messages[:3])


@pytest.mark.parametrize(
    ("now", "yesterday"),
    [("2026-10-05T02:00", "2026-10-04"), ("2026-10-05T01:59:59", "2026-10-03"), ("2024-03-01T23:59", "2024-02-29")],
)
def test_the_slot_covers_the_day_before_it(now: str, yesterday: str) -> None:
    assert window_of(JOBS[NAME], utc(now), WindowOptions())[0] == day(yesterday)


def test_a_second_run_changes_no_row_and_a_late_event_only_its_own(settings: Settings, session: Session) -> None:
    messages = [Message("email_sent"), Message("email_opened", person=2), Message("email_sent", source=str(AUTUMN))]
    _add(session, *messages)
    _run(settings)
    rows = b"SELECT xmin, ctid, * FROM analytics.campaign_daily_stats ORDER BY campaign_id"
    versions = session.rows(rows)
    assert _run(settings).counters["unchanged"] == 2
    assert session.rows(rows) == versions
    late = Message("email_opened", "2026-10-05T23:59:59.999999", person=3, source=f"campaign:{SPRING}")
    _add(session, late)
    assert _run(settings).counters["updated"] == 1
    assert _stored(session) == _reference([*messages, late])
    assert session.rows(rows)[1] == versions[1]


def test_a_lower_figure_is_refused_whichever_it_is(settings: Settings, session: Session) -> None:
    counted: dict[str, Any] = dict.fromkeys(FIGURES, 1)
    _add(session, *(Message(f"email_{kind}") for kind in KINDS))
    for figure in FIGURES:
        session.execute(b"TRUNCATE analytics.campaign_daily_stats")
        _record(session, **{**counted, "sent": 0, figure: 2})
        before = _stored(session)
        report = _run(settings)
        assert (report.exit_code, _stored(session)) == (ExitCode.REFUSED, before)
        assert isinstance(report.error, RefusedError)
        assert [(row["organization_id"], row["kinds"], row["groups"]) for row in report.error.rows] == [
            (ACME, [str(SPRING)], 1)
        ]
        shown = _run(settings, compare=True, allow_shrink=True).changes
        assert (figure, 2, 1) in [(row["figure"], row["old"], row["new"]) for row in shown]
        session.execute(b"TRUNCATE analytics.campaign_daily_stats")
        _record(session, **{**counted, "sent": 0, figure: 2})
        assert _run(settings, allow_shrink=True).counters["updated"] == 1
        assert list(_stored(session).values()) == [(1,) * 9]


@pytest.mark.parametrize("figures", [{"opened": 3, "unique_opened": 2}, {}])
def test_a_row_without_events_is_refused_and_kept_until_shrinking_is_allowed(
    settings: Settings, session: Session, figures: dict[str, Any]
) -> None:
    other_day = {(SPRING, ACME, date(2026, 10, 4)): (0,) * 9}
    _record(session, on=date(2026, 10, 4))
    _record(session, **figures)
    before = _stored(session)
    report = _run(settings)
    assert (report.exit_code, _stored(session)) == (ExitCode.REFUSED, before)
    assert isinstance(report.error, RefusedError)
    assert [(row["old_total"], row["new_total"]) for row in report.error.rows] == [(figures.get("opened", 0), 0)]
    assert _run(settings, allow_shrink=True).counters["removed"] == 1
    assert _stored(session) == other_day


def test_other_campaigns_organizations_and_days_are_left_alone(settings: Settings, session: Session) -> None:
    sources = [str(SPRING), str(AUTUMN), "journey"]
    _add(session, *(Message("sms_sent", source=source, owner=owner) for source in sources for owner in (ACME, GLOBEX)))
    _record(session, campaign=AUTUMN, sent=9)
    _record(session, on=date(2026, 10, 4), sent=9)
    options: dict[str, Any] = {"campaign": [str(SPRING)], "org": [str(ACME)], "allow_shrink": True}
    assert _run(settings, **options).counters == {
        "days": 1, "events": 1, "other_channels": 0, "unattributed": 0,
        "inserted": 1, "updated": 0, "removed": 0, "unchanged": 0,
        "withheld": 0,
    }  # fmt: skip
    sent = {key: figures[0] for key, figures in _stored(session).items()}
    assert sent == {
        (SPRING, ACME, OCTOBER_5): 1, (AUTUMN, ACME, OCTOBER_5): 9, (SPRING, ACME, date(2026, 10, 4)): 9
    }  # fmt: skip


@pytest.mark.parametrize(("option", "value"), [("campaign", AUTUMN), ("org", GLOBEX)])
def test_an_id_without_events_and_figures_is_an_error_of_usage(
    settings: Settings, session: Session, option: str, value: UUID
) -> None:
    _add(session, Message("sms_sent"))
    given: dict[str, Any] = {option: [str(SPRING if option == "campaign" else ACME), str(value)]}
    report = _run(settings, **given)
    assert isinstance(report.error, UsageError)
    assert f"No {'campaign' if option == 'campaign' else 'organization'} {value}:" in str(report.error)


def test_a_campaign_is_known_by_figures_or_events_of_any_day(settings: Settings, session: Session) -> None:
    _add(session, Message("sms_sent", "2026-10-07T10:00", source=f"CAMPAIGN:{str(SPRING).upper()}"))
    _record(session, campaign=AUTUMN, on=date(2026, 9, 1))
    options = {"campaign": [str(SPRING), str(AUTUMN)]}
    reports = run_all(split(request(settings, day("2026-10-05", 3), NAME, options=options)))
    assert [report.counters["inserted"] for report in reports] == [0, 0, 1]


def test_a_dry_run_writes_nothing_and_comparing_shows_each_figure(settings: Settings, session: Session) -> None:
    _record(session, campaign=AUTUMN, sent=1)
    _add(session, *[Message("sms_sent", source=str(AUTUMN))] * 2, Message("push_clicked"))
    before = _stored(session)
    report = run(request(settings, day("2026-10-05"), NAME, options={"compare": True}, dry_run=True))
    assert (report.status, _stored(session)) == (Status.DRY_RUN, before)
    assert [tuple(row.values()) for row in report.changes] == [
        (OCTOBER_5, ACME, SPRING, "sent", None, 0, None),
        (OCTOBER_5, ACME, SPRING, "clicked", None, 1, None),
        (OCTOBER_5, ACME, SPRING, "unique_clicked", None, 1, None),
        (OCTOBER_5, ACME, AUTUMN, "sent", 1, 2, None),
    ]


class _KilledError(Exception):
    """Stands for the end of the process: what is not committed by then is lost."""


def _killed_after_writing(context: Context[Any], window: Window) -> JobResult:
    JOBS[NAME].run(context, window)
    raise _KilledError


_midnights = [utc(text) for text in ("2024-02-29", "2024-03-01", "2026-01-01", "2026-10-05")]
_at_most = timedelta(hours=30)
_near = st.sampled_from([timedelta(), timedelta(microseconds=-1)]) | st.timedeltas(-_at_most, _at_most)
_instants = st.builds(lambda midnight, offset: midnight + offset, st.sampled_from(_midnights), _near)
_types = [f"{channel}_{kind}" for channel in ("email", "sms", "push") for kind in KINDS]
_messages = st.lists(
    st.builds(
        Message,
        st.sampled_from([*_types, "email_opened", "push_opened", "sms_clicked", "page_viewed"]),
        _instants,
        st.integers(1, 3),
        st.sampled_from([*CAMPAIGN_SOURCES, str(AUTUMN), *OTHER_SOURCES]),
        st.sampled_from([ACME, GLOBEX]),
    ),
    max_size=40,
)
_windows = st.builds(
    lambda start, length: Window(start, start + length),
    _instants,
    st.timedeltas(timedelta(seconds=1), timedelta(days=2)),
)


@RANDOM_RUNS
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=_messages, windows=st.lists(st.tuples(_windows, st.booleans()), max_size=4), order=st.randoms())
def test_any_order_repetition_and_kill_of_windows_ends_in_the_figures_of_one_rebuild(
    settings: Settings, session: Session, messages: list[Message], windows: list[tuple[Window, bool]], order: Any
) -> None:
    session.execute(b"TRUNCATE analytics.contact_activity, analytics.campaign_daily_stats, mauntic_jobs.runs")
    _add(session, *messages)
    days = sorted({Unit.DAY.floor(each.instant) for each in messages})
    steps = [(Window(start, start + timedelta(days=1)), False) for start in days] + windows
    order.shuffle(steps)
    for window, killed in steps:
        asked = request(settings, window, NAME)
        if killed:
            before = _stored(session)
            with pytest.raises(_KilledError):
                list(run_all(split(replace(asked, job=replace(asked.job, run=_killed_after_writing)))))
            assert _stored(session) == before
        else:
            assert {report.status for report in run_all(split(asked))} == {Status.SUCCEEDED}
    assert _stored(session) == _reference(messages)
