"""How days and months stand: by the raw events, the recorded rows and the ledger of runs."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from mauntic_jobs.backfill.coverage import BucketCoverage, BucketState, buckets, judge
from mauntic_jobs.backfill.plan import BackfillRequest, Reprocess, make_plan
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import BucketCounts, Context, Job, JobOptions, JobResult, Transaction
from mauntic_jobs.jobs.registry import JOBS, find_job
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Unit, Window
from tests.support import Event, add_events, contact, day, organization, request, utc

_NOW = utc("2026-10-20T10:00")
_ACME, _OTHER = organization(1), organization(2)
_WEEK = day("2026-10-05", 7)
_TICK = timedelta(microseconds=1)


@pytest.fixture
def session(direct_settings: Settings) -> Iterator[Session]:
    with connect(direct_settings) as opened:
        yield opened


def _event(at: str, owner: UUID = _ACME, kind: str = "email_opened") -> Event:
    return Event(owner, contact(1), kind, utc(at))


def _judged(
    session: Session,
    settings: Settings,
    window: Window,
    job: str = "aggregate-hourly",
    now: datetime = _NOW,
    **options: object,
) -> list[BucketCoverage]:
    known = JOBS[job]
    return list(judge(session, known, known.options.model_validate(options), settings, now, buckets(known, window)))


def _states(judged: list[BucketCoverage]) -> list[BucketState]:
    return [each.state for each in judged]


def _run(settings: Settings, window: Window, job: str = "aggregate-hourly", **options: object) -> None:
    assert run(request(settings, window, job, now=window.end, options=options)).error is None


def test_each_day_is_told_by_its_events_its_rows_and_its_runs(direct_settings: Settings, session: Session) -> None:
    days = [f"2026-10-{number:02}" for number in range(5, 12)]
    add_events(session, [_event(f"{each}T10:00") for each in days if each != "2026-10-10"])
    for each in (*days[:4], "2026-10-09"):
        _run(direct_settings, day(each), grace="0s")
    session.execute(b"DELETE FROM analytics.event_aggregates WHERE date = '2026-10-06'")
    add_events(session, [_event("2026-10-07T11:00")])
    session.execute(b"DELETE FROM analytics.contact_activity WHERE created_at::date = '2026-10-08'")
    session.execute(b"DELETE FROM analytics.event_aggregates WHERE date = '2026-10-09'")
    failed = claims.acquire(session, request(direct_settings, day("2026-10-09")), 1)
    claims.fail(session, failed, "the disk is full")
    judged = _judged(session, direct_settings, _WEEK)
    assert [(str(each.bucket.start.date()), each.state.value) for each in judged] == [
        ("2026-10-05", "done"),
        ("2026-10-06", "missing"),
        ("2026-10-07", "stale"),
        ("2026-10-08", "shrunk"),
        ("2026-10-09", "failed"),
        ("2026-10-10", "empty"),
        ("2026-10-11", "missing"),
    ]
    assert "rows are gone" in judged[1].reason
    assert judged[2].reason.startswith("1 event not recorded; they came after run ")
    assert "the disk is full" in judged[4].reason
    assert "no run has covered it" in judged[6].reason
    assert [each.events for each in judged] == [1, 1, 2, 0, 1, 0, 1]


def test_a_day_that_was_counted_before_it_ended_is_missing_and_not_stale(
    direct_settings: Settings, session: Session
) -> None:
    add_events(session, [_event("2026-10-05T10:00"), _event("2026-10-05T20:00")])
    window = Window(utc("2026-10-05T09:00"), utc("2026-10-05T11:00"))
    assert run(request(direct_settings, window, now=window.end, slot=window.end)).error is None
    add_events(session, [_event("2026-10-05T21:00")])
    assert _states(_judged(session, direct_settings, day("2026-10-05"))) == [BucketState.MISSING]


def test_the_hourly_runs_of_the_next_hours_cover_a_day(direct_settings: Settings, session: Session) -> None:
    add_events(session, [_event("2026-10-05T10:00")])
    window = Window(utc("2026-10-06T00:00"), utc("2026-10-06T01:00"))
    assert run(request(direct_settings, window, now=window.end, slot=window.end)).error is None
    add_events(session, [_event("2026-10-05T11:00")])
    assert _states(_judged(session, direct_settings, day("2026-10-05"))) == [BucketState.STALE]


def test_a_success_makes_up_for_a_failure(direct_settings: Settings, session: Session) -> None:
    add_events(session, [_event("2026-10-05T10:00")])
    claims.fail(session, claims.acquire(session, request(direct_settings, day("2026-10-05")), 1), "no")
    assert _states(_judged(session, direct_settings, day("2026-10-05"))) == [BucketState.FAILED]
    _run(direct_settings, day("2026-10-05"))
    add_events(session, [_event("2026-10-05T11:00")])
    assert _states(_judged(session, direct_settings, day("2026-10-05"))) == [BucketState.STALE]


def test_a_day_that_is_not_over_is_open(direct_settings: Settings, session: Session) -> None:
    end = utc("2026-10-06T00:00")
    assert _states(_judged(session, direct_settings, day("2026-10-05"), now=end - _TICK)) == ["open"]
    assert _states(_judged(session, direct_settings, day("2026-10-05"), now=end)) == ["empty"]


def test_one_organization_is_told_without_the_others(direct_settings: Settings, session: Session) -> None:
    add_events(session, [_event("2026-10-05T10:00"), _event("2026-10-05T10:00", _OTHER)])
    _run(direct_settings, day("2026-10-05"), org=[str(_ACME)])
    assert _states(_judged(session, direct_settings, day("2026-10-05"), org=[str(_ACME)])) == ["done"]
    assert _states(_judged(session, direct_settings, day("2026-10-05"), org=[str(_OTHER)])) == ["missing"]
    (whole,) = _judged(session, direct_settings, day("2026-10-05"))
    # The run of one organization covers the day for nobody else.
    assert (whole.state, whole.run) == (BucketState.MISSING, None)
    with pytest.raises(UsageError, match="No organization"):
        _judged(session, direct_settings, day("2026-10-05"), org=[str(organization(9))])


def test_a_type_that_does_not_fit_is_no_reason_to_run_again(direct_settings: Settings, session: Session) -> None:
    session.execute(b"ALTER TABLE analytics.contact_activity ALTER COLUMN event_type TYPE varchar(200)")
    add_events(session, [_event("2026-10-05T10:00", kind="x" * 101), _event("2026-10-05T10:00")])
    run(request(direct_settings, day("2026-10-05"), options={"grace": "0s"}))
    assert _states(_judged(session, direct_settings, day("2026-10-05"))) == [BucketState.SHRUNK]


def test_months_are_compared_with_their_own_rows(direct_settings: Settings, session: Session) -> None:
    window = Window(utc("2026-07-01T00:00"), utc("2026-10-01T00:00"))
    add_events(session, [_event("2026-07-05T10:00"), _event("2026-08-05T10:00")])
    _run(direct_settings, day("2026-07-05"), "monthly-usage-summary")
    # Daily rows are no usage of a month.
    _run(direct_settings, day("2026-08-05"))
    name = "monthly-usage-summary"
    assert _states(_judged(session, direct_settings, window, name)) == ["done", "missing", "empty"]
    add_events(session, [_event("2026-07-06T10:00")])
    assert _states(_judged(session, direct_settings, window, name)) == ["stale", "missing", "empty"]


_CAMPAIGN = UUID(int=7)
_SENT = (
    b"INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)"
    b" VALUES (%(org)s, gen_random_uuid(), %(kind)s, %(source)s, %(at)s)"
)


def _message(session: Session, kind: str, at: str, source: str | None = f"campaign:{_CAMPAIGN}") -> None:
    session.execute(_SENT, {"org": _ACME, "kind": kind, "source": source, "at": at})


def test_figures_of_campaigns_are_compared_by_the_channel_that_they_count(
    direct_settings: Settings, session: Session
) -> None:
    name = "generate-daily-reports"
    for kind in ("email_sent", "email_sent", "email_opened", "sms_sent"):
        _message(session, kind, "2026-10-05T10:00")
    _message(session, "email_sent", "2026-10-06T10:00", "journey")
    _message(session, "email_sent", "2026-10-07T10:00")
    _run(direct_settings, day("2026-10-05"), name)
    judged = _judged(session, direct_settings, day("2026-10-05", 3), name)
    # What another channel sent is not recorded, and not missing; what no campaign sent is no event of the figures.
    assert [(each.state.value, each.events) for each in judged] == [("done", 3), ("empty", 0), ("missing", 1)]
    _message(session, "email_opened", "2026-10-05T11:00")
    assert _states(_judged(session, direct_settings, day("2026-10-05"), name)) == ["stale"]
    session.execute(b"DELETE FROM analytics.contact_activity WHERE event_type = 'email_opened'")
    assert _states(_judged(session, direct_settings, day("2026-10-05"), name)) == ["shrunk"]
    every = Settings(**{**direct_settings.model_dump(), "campaign_channels": "all"})
    session.execute(b"UPDATE analytics.campaign_daily_stats SET sent = 3, opened = 0")
    assert _states(_judged(session, every, day("2026-10-05"), name)) == ["done"]


def test_rows_agree_with_what_a_rebuild_would_do(direct_settings: Settings, session: Session) -> None:
    """The judgement by counts is that of the rebuild: done means that it changes nothing."""
    add_events(session, [_event(f"2026-10-{number:02}T10:00", organization(number % 3)) for number in range(5, 12)])
    for each in ("2026-10-05", "2026-10-08", "2026-10-11"):
        _run(direct_settings, day(each), grace="0s")
    add_events(session, [_event("2026-10-08T10:00", organization(9))])
    for judged in _judged(session, direct_settings, _WEEK):
        rehearsed = run(request(direct_settings, judged.bucket, dry_run=True, options={"grace": "0s"}))
        changes = rehearsed.counters["inserted"] + rehearsed.counters["updated"]
        assert (judged.state is BucketState.DONE) == (changes == 0), judged


def test_a_job_without_an_audit_is_told_by_its_runs(direct_settings: Settings, session: Session) -> None:
    def nothing(_context: Context[JobOptions], _window: Window) -> JobResult:
        return JobResult({})

    described = {"summary": "", "description": "", "cron": "0 0 * * *", "unit": Unit.DAY, "bucket": Unit.DAY}
    job = Job(name="other", options=JobOptions, run=nothing, **described)  # type: ignore[arg-type]
    session.execute(
        b"INSERT INTO mauntic_jobs.runs (job, window_start, window_end, launcher, host, pid, version, fencing_token,"
        b" status, started_at, finished_at, error)"
        b" SELECT 'other', start, start + interval '1 day', 'cli', 'h', 1, '0', 1, status,"
        b" start + interval '1 day', start + interval '1 day', 'no' FROM (VALUES"
        b" ('2026-10-05'::timestamptz, 'succeeded'), ('2026-10-06', 'failed')) AS made (start, status)"
    )
    judged = list(judge(session, job, JobOptions(), direct_settings, _NOW, buckets(job, day("2026-10-05", 3))))
    assert _states(judged) == [BucketState.DONE, BucketState.FAILED, BucketState.MISSING]


@pytest.mark.parametrize("name", [name for name, job in JOBS.items() if job.bucket is None])
def test_a_job_that_looks_at_the_present_has_no_windows(name: str) -> None:
    with pytest.raises(UsageError, match="has no windows to backfill: it looks at the present"):
        buckets(find_job(name), _WEEK)


@pytest.mark.parametrize(
    ("reprocess", "counted", "chosen"), [(Reprocess.ALL, 1, 7), (Reprocess.MISSING, 7, 6), (Reprocess.FAILED, 7, 0)]
)
def test_windows_that_are_run_in_any_case_are_not_counted_before(
    direct_settings: Settings, session: Session, reprocess: Reprocess, counted: int, chosen: int
) -> None:
    add_events(session, [_event(f"2026-10-{number:02}T10:00") for number in range(5, 12)])
    _run(direct_settings, day("2026-10-05"), grace="0s")
    known, asked = JOBS["aggregate-hourly"], []

    def audit(transaction: Transaction, options: JobOptions, settings: Settings, bucket: Window) -> BucketCounts:
        asked.append(bucket)
        assert known.audit is not None
        return known.audit(transaction, options, settings, bucket)

    job = replace(known, audit=audit)
    backfill = BackfillRequest(job, _WEEK, job.options(), [reprocess], False, 1, 5)
    plan = make_plan(session, backfill, direct_settings, _NOW)
    assert len(asked) == counted
    assert sum(each.skipped is None for each in plan) == chosen
    assert [each.found for each in plan] == [BucketState.DONE, *[BucketState.MISSING] * 6]


def test_an_unknown_organization_is_named_before_all_windows_are_run(
    direct_settings: Settings, session: Session
) -> None:
    job = JOBS["aggregate-hourly"]
    options = job.options.model_validate({"org": [str(organization(9))]})
    backfill = BackfillRequest(job, _WEEK, options, [Reprocess.ALL], False, 1, 5)
    with pytest.raises(UsageError, match=str(organization(9))):
        make_plan(session, backfill, direct_settings, _NOW)
