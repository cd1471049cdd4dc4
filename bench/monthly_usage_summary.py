"""How fast `monthly-usage-summary` counts a month, and what it spills, against the obvious statement.

python bench/monthly_usage_summary.py --rows 20M
"""

from bench._common import arguments, database, machine
from bench._events import load
from bench._results import store
from bench._sql_ways import Ways, rows
from mauntic_jobs.cli.framework.output import print_json, print_table
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY
from mauntic_jobs.timekeeping.window import Unit


def main() -> None:
    """Generate, measure, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows)
        ways = Ways(url, MONTHLY_USAGE_SUMMARY, events.window.aligned(Unit.MONTH), "monthly_usage_summary")
        figures = ways.measure(
            [("count_distinct", "4MB"), ("count_distinct", "64MB"), ("two_levels", "64MB")],
            ["4MB", "64MB"],
            given.rounds,
        )
        results = {"machine": machine(url), "data": events.described(), "ways": figures}
    print_table(rows(figures))
    print_json(results["data"])
    store(given.json, results)


if __name__ == "__main__":
    main()
