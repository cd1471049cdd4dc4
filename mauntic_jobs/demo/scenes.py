"""The demo's scenes of the jobs that come after `aggregate-hourly`, and the last one, in which all six run again."""

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from mauntic_jobs.demo.audience import load_audience
from mauntic_jobs.demo.sample import SampleSummary
from mauntic_jobs.demo.stage import DOING, Stage, perform
from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.job import AnyJob
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY
from mauntic_jobs.jobs.generate_daily_reports import GENERATE_DAILY_REPORTS
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.jobs.stale_execution_cleanup import STALE_EXECUTION_CLEANUP
from mauntic_jobs.jobs.warmup_daily_reset import WARMUP_DAILY_RESET
from mauntic_jobs.ops.figures.campaigns import campaigns_table, read_campaigns
from mauntic_jobs.ops.figures.journeys import journeys_table, read_journeys
from mauntic_jobs.ops.figures.usage import organizations_table, read_usage
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping.window import Unit, Window, parse_date
from mauntic_jobs.warmup.keys import keys
from mauntic_jobs.wording import counted

_CAMPAIGNS = 5
_ORGANIZATIONS = 10
_JOURNEYS = 5
_SHOWN = 2
_QUEUE = "journey:execute-step"

_sql = statements("demo_audience")


def play_others(stage: Stage, summary: SampleSummary) -> None:
    """Show the other five jobs at work. Raises JobFailedError if a run does not end as it should."""
    names = {str(organization.id): organization.name for organization in summary.organizations}
    _reports(stage)
    _usage(stage, summary)
    _segments(stage)
    _stale(stage)
    _warm_up(stage, names)


def play_all_again(stage: Stage, summary: SampleSummary) -> None:
    """Run all six jobs again, and demand that nothing changes."""
    stage.show.step("Run all six again: nothing has happened, so nothing changes")
    rows: list[list[str | int]] = []
    for job, window in _windows(stage, summary):
        outcome = perform(stage, job, window)
        demand(outcome.changed == 0, f"The second run of {job.name} changed something.")
        found = [counted(count, name) for name, count in outcome.counters.items() if count and name not in DOING]
        rows.append([job.name, outcome.changed, ", ".join(found[-_SHOWN:]) or "nothing to do"])
    stage.show.blank()
    stage.show.table(["job", "changed", "found"], rows)


def demand(condition: bool, complaint: str) -> None:
    """Raise JobFailedError unless the condition holds."""
    if not condition:
        raise JobFailedError(f"{complaint} This is a defect of mauntic-jobs: please report it.")


def _windows(stage: Stage, summary: SampleSummary) -> list[tuple[AnyJob, Window]]:
    hour, day = Window.before(stage.now, Unit.HOUR), Window.before(stage.now, Unit.DAY)
    return [
        (AGGREGATE_HOURLY, stage.window),
        (GENERATE_DAILY_REPORTS, day),
        (MONTHLY_USAGE_SUMMARY, _month(stage.now, summary)),
        (SEGMENT_TRIGGER_EVAL, hour),
        (STALE_EXECUTION_CLEANUP, day),
        (WARMUP_DAILY_RESET, _today(stage)),
    ]


def _today(stage: Stage) -> Window:
    start = Unit.DAY.floor(stage.now)
    return Window(start, Unit.DAY.after(start))


def _month(now: datetime, summary: SampleSummary) -> Window:
    """Return last month, or this one where the sample does not reach back to it."""
    last = Window.before(now, Unit.MONTH)
    return last if summary.start < last.end else Window(last.end, Unit.DAY.after(now))


def _reports(stage: Stage) -> None:
    stage.show.step("Report on the campaigns of yesterday", "mauntic-jobs generate-daily-reports")
    day = Window.before(stage.now, Unit.DAY)
    outcome = perform(stage, GENERATE_DAILY_REPORTS, day)
    stage.show.done(
        f"{outcome.counters['events']:,} events became {outcome.counters['inserted']} rows; "
        f"{outcome.counters['unattributed']:,} events belong to no campaign."
    )
    stage.show.blank()
    stage.show.command(f"mauntic-jobs show campaign --date yesterday --limit {_CAMPAIGNS}")
    rows = read_campaigns(stage.session, GENERATE_DAILY_REPORTS, stage.settings, day)
    stage.show.draw(campaigns_table(rows, stage.show.canvas, _CAMPAIGNS))


def _usage(stage: Stage, summary: SampleSummary) -> None:
    window = _month(stage.now, summary)
    month = f"--month {window.start:%Y-%m}"
    stage.show.step("Sum up a month's usage", f"mauntic-jobs monthly-usage-summary {month}")
    outcome = perform(stage, MONTHLY_USAGE_SUMMARY, window)
    stage.show.done(f"{outcome.counters['events']:,} events became {outcome.counters['inserted']} rows.")
    stage.show.blank()
    stage.show.command(f"mauntic-jobs show usage {month} --limit {_ORGANIZATIONS}")
    rows = read_usage(stage.session, MONTHLY_USAGE_SUMMARY, stage.settings, window.aligned(Unit.MONTH))
    stage.show.draw(organizations_table(rows, stage.show.canvas, _ORGANIZATIONS))


def _segments(stage: Stage) -> None:
    stage.show.step("Let contacts of segments enter journeys", "mauntic-jobs segment-trigger-eval")
    added = load_audience(stage.session, stage.settings, stage.now)
    stage.show.text(
        f"The sample gets {added['contacts']:,} contacts, {added['segments']} segments, as many journeys that those "
        f"trigger, and {added['executions']:,} executions of another journey that are under way."
    )
    outcome = perform(stage, SEGMENT_TRIGGER_EVAL, Window.before(stage.now, Unit.HOUR))
    with closing(open_redis(stage.settings)) as redis:
        waiting = redis.command("LLEN", f"{stage.settings.queue_prefix}:{_QUEUE}:wait")
    entered = outcome.counters["entered"]
    demand(waiting == entered > 0, f"{entered} executions were started, and {waiting} jobs wait on {_QUEUE}.")
    stage.show.done(f"{entered:,} contacts entered; {waiting:,} jobs wait on the BullMQ queue {_QUEUE}.")
    stage.show.blank()
    stage.show.command(f"mauntic-jobs show journey --date today --limit {_JOURNEYS}")
    rows = read_journeys(stage.session, SEGMENT_TRIGGER_EVAL, stage.settings, parse_date("today", stage.now))
    stage.show.draw(journeys_table(rows, stage.show.canvas, _JOURNEYS))


def _stale(stage: Stage) -> None:
    stage.show.step("Cancel executions that nothing moves any more", "mauntic-jobs stale-execution-cleanup")
    outcome = perform(stage, STALE_EXECUTION_CLEANUP, Window.before(stage.now, Unit.DAY))
    left = {row["status"]: row["executions"] for row in stage.session.rows(_sql["outcomes"])}
    stage.show.done(
        f"{outcome.counters['canceled']:,} canceled, idle for more than a week. {left.get('active', 0):,} stay active: "
        f"they are newer, or wait in a delay that is not over."
    )


def _warm_up(stage: Stage, names: dict[str, str]) -> None:
    stage.show.step("Let sending domains start the new day", "mauntic-jobs warmup-daily-reset")
    domains = stage.session.rows(_sql["all_domains"])
    before = _counters(stage, domains)
    outcome = perform(stage, WARMUP_DAILY_RESET, _today(stage))
    after = _counters(stage, domains)
    stage.show.done(
        f"{outcome.counters['domains']} domains are being warmed up. What they sent since midnight stays counted."
    )
    stage.show.blank()
    stage.show.table(
        ["organization", "domain", "counter before", "after"],
        [
            [names[row["organization_id"]], row["domain"], old, new]
            for row, old, new in zip(domains, before, after, strict=True)
        ],
    )


def _counters(stage: Stage, domains: Sequence[dict[str, Any]]) -> list[int]:
    with closing(open_redis(stage.settings)) as redis:
        return [int(redis.command("GET", keys(row["organization_id"], row["domain"])[0]) or 0) for row in domains]
