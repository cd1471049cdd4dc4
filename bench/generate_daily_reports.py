"""How fast `generate-daily-reports` rebuilds a day, against the obvious statement, which writes nothing.

python bench/generate_daily_reports.py --rows 20M
"""

from bench._common import arguments, database, machine
from bench._events import load
from bench._results import store
from bench._sql_ways import Ways, rows
from mauntic_jobs.cli.framework.output import print_json, print_table
from mauntic_jobs.jobs.generate_daily_reports import GENERATE_DAILY_REPORTS


def main() -> None:
    """Generate, measure, print."""
    given = arguments(__doc__)
    with database(given.database_url, keep=given.keep) as url:
        events = load(url, given.rows)
        ways = Ways(url, GENERATE_DAILY_REPORTS, events.days[-1], "generate_daily_reports")
        figures = ways.measure([("count_distinct", "64MB")], ["64MB"], given.rounds)
        results = {"machine": machine(url), "data": events.described(), "ways": figures}
    print_table(rows(figures))
    print_json(results["data"])
    store(given.json, results)


if __name__ == "__main__":
    main()
