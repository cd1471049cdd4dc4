"""A job against statements that read the same events: seconds, temporary bytes, and that all count the same."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench._common import Sample, connect, say, statements, summary
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Job
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.sources import load as load_settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window, naive

_common = statements("_sql_ways")


@dataclass(frozen=True)
class Ways:
    """Ways to get the same figures of `window`'s events: the job's, and statements of `file` by name and work_mem."""

    url: str
    job: Job[Any]
    window: Window
    file: str

    def measure(self, statement_ways: list[tuple[str, str]], job_work_mems: list[str], rounds: int) -> dict[str, Any]:
        """Take turns for so many rounds; return each way's figures, ratios being to the first of `statement_ways`.

        Raises RuntimeError if two ways count differently.
        """
        ways: dict[str, Callable[[], tuple[Sample, int, Any]]] = {
            **{f"{name}, work_mem {memory}": self._statement(name, memory) for name, memory in statement_ways},
            **{f"the job, work_mem {memory}": self._run(memory) for memory in job_work_mems},
        }
        samples: dict[str, list[Sample]] = {name: [] for name in ways}
        spilled: dict[str, int] = {}
        for number in range(rounds):
            results = {}
            for name, way in ways.items():
                sample, spilled[name], results[name] = way()
                samples[name].append(sample)
                say(f"round {number + 1} of {rounds}: {name}: {sample.seconds:.1f} s")
            if len(set(results.values())) != 1:
                raise RuntimeError(f"the ways count differently: {results}")
        reference = samples[next(iter(samples))]
        return {
            name: summary(found, reference) | {"temporary_mb": spilled[name] / 1e6} for name, found in samples.items()
        }

    def _statement(self, name: str, work_mem: str) -> Callable[[], tuple[Sample, int, Any]]:
        query = statements(self.file)[name]
        times = {"start": naive(self.window.start), "end": naive(self.window.end)}

        def way() -> tuple[Sample, int, Any]:
            before = self._spilled()
            started = time.perf_counter()
            with connect(self.url) as connection:
                connection.execute(_common["work_mem"], {"work_mem": work_mem})
                (total,) = connection.execute(query, times)
                seconds = time.perf_counter() - started
                connection.execute(_common["flush"])
            return Sample(seconds), self._spilled() - before, tuple(total.values())

        return way

    def _run(self, work_mem: str) -> Callable[[], tuple[Sample, int, Any]]:
        # All channels together, as the statements count.
        settings, _ = load_settings({"database_url": self.url, "work_mem": work_mem, "campaign_channels": "all"})
        request = Request(
            job=self.job,
            window=self.window,
            coverage=self.window,
            options=self.job.options(),
            settings=settings,
            launcher=Launcher.CLI,
            now=clock.now(),
        )

        def way() -> tuple[Sample, int, Any]:
            with connect(self.url) as connection:
                connection.execute(statements(self.file)["clear"])
            before = self._spilled()
            started = time.perf_counter()
            report = run(request)
            seconds = time.perf_counter() - started
            if report.exit_code is not ExitCode.DONE:
                raise RuntimeError(f"the run ended as {report.status}: {report.error}")
            with connect(self.url) as connection:
                (total,) = connection.execute(statements(self.file)["written"])
            return Sample(seconds), self._spilled() - before, tuple(total.values())

        return way

    def _spilled(self) -> int:
        """Return the bytes of temporary files so far; what ended sessions wrote is counted with a little delay."""
        time.sleep(1.5)
        with connect(self.url) as connection:
            (row,) = connection.execute(_common["spilled"])
        return int(row["bytes"])


def rows(figures: dict[str, Any]) -> list[dict[str, str]]:
    """Return the figures as the rows of a table."""
    return [
        {
            "way": name,
            "ratio": _spread(found["ratio"], 2),
            "seconds": _spread(found["seconds"], 1),
            "temporary files": f"{found['temporary_mb']:,.0f} MB",
        }
        for name, found in figures.items()
    ]


def _spread(values: dict[str, float], digits: int) -> str:
    return f"{values['median']:.{digits}f} ({values['min']:.{digits}f}-{values['max']:.{digits}f})"
