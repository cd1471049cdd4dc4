"""Late events: those that came after their day was recorded.

The daily report looks for them once a day, by counts, on the days before the one it reports. The daily rollups of the
days that lack events are rebuilt, then the figures of campaigns, and the usage of months that is recorded already.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from uuid import UUID

from mauntic_jobs.errors import JobFailedError, StatementTimeoutError
from mauntic_jobs.job import Context, JobOptions, JobResult, Row, Transaction
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY, AggregateHourlyOptions, rebuild_day
from mauntic_jobs.jobs.buckets import lock_bucket
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY, MonthlyUsageSummaryOptions, rebuild_month
from mauntic_jobs.jobs.rollup import MAX_NAMED, ChangeReason, Rebuilt
from mauntic_jobs.settings.types import CampaignChannels
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from mauntic_jobs.wording import plural

_DAY = timedelta(days=1)
_KEPT = timedelta(days=90)
_DAYS_NAMED = 7

_sql = statements("late_events")

# Rebuilds the figures of one day for the campaigns of some organizations, or of all.
Report = Callable[[Sequence[UUID], Window], Rebuilt]


@dataclass
class Late:
    """The result of a look for late events; `days` are rows of the `late_days` statement."""

    days: list[Row] = field(default_factory=list)
    written: Rebuilt = field(default_factory=Rebuilt)
    rebuilt: set[datetime] = field(default_factory=set)

    @property
    def events(self) -> int:
        """How many events came after their day had been recorded."""
        return sum(day["events"] for day in self.days if day["recorded"])


def with_late_events(context: Context[JobOptions], result: JobResult, reported: datetime, report: Report) -> JobResult:
    """Look for late events of the days before `reported`, and return the job's result with what was found.

    A failure of the look leaves the result of the day itself as it is, and makes the run partial.
    """
    days = list(_days(context.settings.late_events_window, reported))
    if not days:
        return result
    try:
        with context.transaction.savepoint():
            late = _look(context, days, report)
    except (JobFailedError, StatementTimeoutError) as error:
        problem = f"the look for late events failed: {error}"
        return replace(result, partial=True, problems=[*result.problems, problem])
    if late.days:
        context.warn(_sentence(context, late))
    withheld = late.written.totals["withheld"]
    return replace(
        result,
        counters={
            **result.counters,
            "withheld": result.counters["withheld"] + withheld,
            "late_events": late.events,
            "late_days": len(late.rebuilt),
        },
        changes=[*result.changes, *late.written.changes],
        partial=result.partial or bool(late.written.problems),
        problems=[*result.problems, *late.written.problems],
        withheld=result.withheld + withheld,
        summary=[*result.summary, *late.written.summary],
    )


def _days(length: timedelta, reported: datetime) -> Iterator[Window]:
    for number in range(length // _DAY, 0, -1):
        start = reported - number * _DAY
        yield Window(start, start + _DAY)


def _look(context: Context[JobOptions], days: Sequence[Window], report: Report) -> Late:
    transaction, late, zone = context.transaction, Late(), context.settings.platform_zone
    by_date = {day.start.date(): day for day in days}
    asked = {
        "days": list(by_date),
        "starts": [naive(day.start, zone) for day in days],
        "start": naive(days[0].start, zone),
        "end": naive(days[-1].end, zone),
        "most": MAX_NAMED,
        "all_channels": context.settings.campaign_channels is CampaignChannels.ALL,
    }
    found = {date: transaction.read(_sql["checksum"], _range(day, zone))[0] for date, day in by_date.items()}
    differing = [date for date, row in found.items() if row["differs"]]
    if not differing:
        asked["end"] = asked["start"]
    transaction.gather("mauntic_jobs_late_counted", _sql["count"], {**asked, "differing": differing})
    transaction.execute(_sql["compare"])
    late.days = transaction.rows(_sql["late_days"], asked)
    for row in late.days:
        day = by_date[row["day"]]
        lock_bucket(transaction, AGGREGATE_HOURLY.name, day)
        options = AggregateHourlyOptions(org=row["ids"] or [])
        late.written.add(rebuild_day(context, options, day, ChangeReason.LATE_EVENTS))
        late.rebuilt.add(day.start)
    for row in transaction.rows(_sql["late_campaigns"], asked):
        day = by_date[row["day"]]
        late.written.add(report(row["ids"] or [], day))
        late.rebuilt.add(day.start)
    for month in Window(days[0].start, days[-1].end).aligned(Unit.MONTH).split(Unit.MONTH):
        _rebuild_month(context, month, late, over=month.end <= days[-1].end + _DAY)
    if not context.dry_run:
        _record(context, late, {date: row["messages"] for date, row in found.items()})
    return late


def _range(day: Window, zone: tzinfo) -> Row:
    return {"date": day.start.date(), "start": naive(day.start, zone), "end": naive(day.end, zone)}


def _record(context: Context[JobOptions], late: Late, messages: Mapping[date, int]) -> None:
    transaction, before = context.transaction, context.now - _KEPT
    recorded = [row["day"] for row in late.days if row["recorded"]]
    transaction.execute(_sql["record"], {"found_at": context.slot, "recorded": recorded})
    record_reported(context, messages)
    transaction.execute(_sql["prune"], {"before": before})
    transaction.execute(_sql["prune_reported"], {"before": before.date()})


def record_reported(context: Context[JobOptions], messages: Mapping[date, int]) -> None:
    """Record from how many message events the figures of campaigns were counted, by day."""
    asked = {"days": list(messages), "messages": list(messages.values())}
    context.transaction.execute(_sql["report"], asked)


def reported_messages(transaction: Transaction, day: date) -> int | None:
    """Return from how many message events the figures of a day were counted, None if that is not known."""
    messages: int | None = transaction.row(_sql["reported"], {"date": day})["messages"]
    return messages


def _rebuild_month(context: Context[JobOptions], month: Window, late: Late, *, over: bool) -> None:
    asked = {"first": month.start.date(), "after": month.end.date(), "over": over}
    lacking = [row["organization_id"] for row in context.transaction.rows(_sql["late_month"], asked)]
    if lacking:
        lock_bucket(context.transaction, MONTHLY_USAGE_SUMMARY.name, month)
        options = MonthlyUsageSummaryOptions(org=lacking if len(lacking) <= MAX_NAMED else [])
        late.written.add(rebuild_month(context, options, month, ChangeReason.LATE_EVENTS))


def _sentence(context: Context[JobOptions], late: Late) -> str:
    named = [_day(row, context.slot or context.now) for row in late.days[-_DAYS_NAMED:]]
    more = len(late.days) - len(named)
    return f"late events were counted: {'; '.join(named)}" + (f"; and {more} more days" if more else "")


def _day(row: Row, found_at: datetime) -> str:
    events = plural(row["events"], "event")
    whose = plural(row["organizations"], "organization")
    end = datetime.combine(row["day"], time(), UTC) + _DAY
    hours = (found_at - end) // timedelta(hours=1)
    how = f"up to {hours} h late" if row["recorded"] else "no run had recorded the day"
    return f"{row['day']} {events} of {whose}, {how}"
