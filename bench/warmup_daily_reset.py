"""How fast `warmup-daily-reset` is, against a round trip to Redis for each command, as the job it replaces works.

python bench/warmup_daily_reset.py --domains 100000
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import redis

from bench._common import Sample, connect, database, machine, run_process, say, statements, summary
from bench._results import store
from mauntic_jobs.cli.framework.output import print_line, print_table
from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.warmup_daily_reset import WARMUP_DAILY_RESET, WarmupDailyResetOptions
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.stores.postgres.session import connect as open_session
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from mauntic_jobs.warmup.keys import dates, keys

_BEFORE, _TODAY, _SENDING = 4_000, 7, 5  # every fifth domain has sent 7 messages since midnight
_MOST_SECONDS, _MOST_MB = 5.0, 150.0

_sql = statements("warmup_daily_reset")


@dataclass(frozen=True)
class _Ways:
    """The ways, for a database and a Redis with counters."""

    settings: Settings
    client: Any

    def prepare(self) -> None:
        """Set every counter to what it is at midnight, with some messages of the new day."""
        self.client.flushdb()
        pipeline = self.client.pipeline(transaction=False)
        for number, (organization, domain) in enumerate(self._domains()):
            counter, account = keys(organization, domain)
            sent = _TODAY if number % _SENDING == 0 else 0
            pipeline.set(counter, _BEFORE + sent)
            if sent:
                pipeline.hset(account, dates(self._today.date())[0], sent)
        pipeline.execute()

    def process(self) -> Sample:
        """Run the job as cron starts it."""
        return run_process([WARMUP_DAILY_RESET.name, "--json"], self._url)

    def in_process(self) -> Sample:
        """Make the same run without the start of a process: connect, claim, reset, record."""
        window = Window(self._today, Unit.DAY.after(self._today))
        request = Request(
            job=WARMUP_DAILY_RESET,
            window=window,
            coverage=window,
            options=WarmupDailyResetOptions(),
            settings=self.settings,
            launcher=Launcher.CLI,
            now=clock.now(),
        )
        started = time.perf_counter()
        report = run(request)
        seconds = time.perf_counter() - started
        if report.exit_code is not ExitCode.DONE:
            raise RuntimeError(f"the run ended as {report.status}: {report.error}")
        return Sample(seconds)

    def round_trips(self) -> Sample:
        """GET and SET each counter, and wait for each answer."""
        started = time.perf_counter()
        for organization, domain in self._domains():
            counter, _ = keys(organization, domain)
            if self.client.get(counter) is not None:
                self.client.set(counter, 0)
        return Sample(time.perf_counter() - started)

    def verify(self) -> None:
        """Raise RuntimeError unless each counter is what was sent today."""
        names = [keys(*domain)[0] for domain in self._domains()]
        wanted = [b"%d" % _TODAY if number % _SENDING == 0 else None for number in range(len(names))]
        if self.client.mget(names) != wanted:
            raise RuntimeError("counters are wrong")

    @property
    def _today(self) -> datetime:
        return Unit.DAY.floor(clock.now())

    @property
    def _url(self) -> str:
        return database_url(self.settings)

    def _domains(self) -> Sequence[tuple[str, str]]:
        with connect(self._url) as connection:
            rows = connection.execute(_sql["warming_up"], {"today": naive(self._today)})
            return [(row["organization_id"], row["domain"]) for row in rows]


def main() -> None:
    """Generate, measure, print."""
    given = _arguments()
    with throwaway() as servers, database(servers.database_url, keep=False) as url:
        os.environ["REDIS_URL"] = servers.redis_url  # for the processes
        settings = Settings(database_url=url, redis_url=servers.redis_url)
        with redis.Redis.from_url(servers.redis_url) as client:
            ways = _Ways(settings, client)
            _load(ways, given.domains)
            samples = _alternate(ways, given.rounds)
            results = {
                "machine": machine(url) | {"valkey": client.info("server")["valkey_version"]},
                "domains": given.domains,
                "ways": {name: summary(taken, samples["a round trip each"]) for name, taken in samples.items()},
            }
    _print(results)
    store(given.json, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", type=int, default=100_000, help="sending domains (default: 100000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser.parse_args()


def _load(ways: _Ways, domains: int) -> None:
    with open_session(ways.settings) as session:
        create_platform(session)
        session.execute(_sql["domains"], {"today": naive(Unit.DAY.floor(clock.now())), "domains": domains})
    upgrade(ways.settings, lambda _: None)


def _alternate(ways: _Ways, rounds: int) -> dict[str, list[Sample]]:
    """Measure the ways in turn, round by round, so that they meet the same noise."""
    samples: dict[str, list[Sample]] = {}
    for number in range(rounds):
        for name, measure in (
            ("a round trip each", ways.round_trips),
            ("job, without process start", ways.in_process),
            ("job, whole process", ways.process),
        ):
            ways.prepare()
            samples.setdefault(name, []).append(measure())
            if measure != ways.round_trips:  # which forgets what was sent today
                ways.verify()
            say(f"round {number + 1} of {rounds}, {name}: {samples[name][-1].seconds:.2f} s")
    return samples


def _print(results: dict[str, Any]) -> None:
    about, ways = results["machine"], results["ways"]
    print_line(
        f"{about['cores']} cores, Python {about['python']}, Postgres {about['postgres']}, Valkey {about['valkey']}; "
        f"{results['domains']:,} domains"
    )
    print_table(
        {
            "way": name,
            "seconds": _text(figures["seconds"]),
            "ratio": _text(figures["ratio"]),
            "peak RSS, MB": round(figures.get("peak_rss_mb", 0)) or "",
        }
        for name, figures in ways.items()
    )
    process = ways["job, whole process"]
    seconds, peak = process["seconds"]["median"], process["peak_rss_mb"]
    for name, value, most in (("seconds", seconds, _MOST_SECONDS), ("peak RSS, MB", peak, _MOST_MB)):
        print_line(f"{name}: {value:.1f}, target {most:.0f}: {'met' if value <= most else 'MISSED'}")


def _text(figures: dict[str, float]) -> str:
    median, least, greatest = (f"{figures[name]:.2f}" for name in ("median", "min", "max"))
    return f"{median} ({least}-{greatest})"


if __name__ == "__main__":
    main()
