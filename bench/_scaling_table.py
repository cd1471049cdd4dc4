"""Rows of the table of docs/scaling.md: how far one Postgres goes, from stored results."""

from statistics import median

from bench._job_tables import Result, Row

SOURCES = (
    "aggregate_hourly",
    "generate_daily_reports",
    "monthly_usage_summary",
    "verify",
    "segment_trigger_eval",
    "stale_execution_cleanup",
    "deliver",
)


def scaling(*results: Result) -> list[Row]:
    """Return what each work takes, in the order of `SOURCES`."""
    hourly, daily, monthly, verify, segments, stale, deliver = results
    return [*_counts(hourly, daily, monthly, verify), *_journeys(segments, stale), _messages(deliver)]


def _counts(hourly: Result, daily: Result, monthly: Result, verify: Result) -> list[Row]:
    job = "the job, work_mem 64MB"
    minutes = [each["minutes"] for each in verify["jobs"].values()]
    return [
        _row(
            "aggregate-hourly",
            f"a day of {hourly['events']['rows_a_day']:,} events, each hour anew",
            _seconds(hourly["hour"]["none"]["job, without process start"]["seconds"]["median"]),
        ),
        _row(
            "generate-daily-reports",
            f"a day of {daily['data']['rows_a_day']:,} events",
            _seconds(daily["ways"][job]["seconds"]["median"]),
        ),
        _row(
            "monthly-usage-summary",
            f"a month of {monthly['data']['rows']:,} events",
            _seconds(monthly["ways"][job]["seconds"]["median"]),
        ),
        _row(
            "verify",
            f"400 days of {verify['data']['rows_a_day']:,} events each, inferred from {verify['data']['days']}",
            f"{min(minutes):.1f} to {max(minutes):.1f} minutes of CPU for each job",
        ),
    ]


def _journeys(segments: Result, stale: Result) -> list[Row]:
    data = stale["data"]
    return [
        _row(
            "segment-trigger-eval",
            f"{segments['contacts']:,} contacts, {segments['triggers']} triggers",
            f"{_seconds(segments['full']['seconds']['median'])} for all contacts, "
            f"{_seconds(segments['changed']['seconds']['median'])} for 1 % that changed",
        ),
        _row(
            "stale-execution-cleanup",
            f"{data['active']:,} active executions, {stale['rounds'][0]['job']['canceled']:,} of them stale",
            _seconds(median(each["job"]["seconds"] for each in stale["rounds"])),
        ),
    ]


def _messages(deliver: Result) -> Row:
    message = next(each for each in reversed(deliver["results"]) if each["kind"] == "messages")
    return _row(
        "deliver",
        f"claims and results of a message, {message['concurrency']} at once",
        f"{message['ways']['deliver']['Postgres']['median']:.2f} ms of Postgres' CPU",
    )


def _row(name: str, work: str, measured: str) -> Row:
    return {"work": f"[`{name}`](performance.md#{name}): {work}", "measured": measured}


def _seconds(value: float) -> str:
    return f"{value:,.2f} s"
