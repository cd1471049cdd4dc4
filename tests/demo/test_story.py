"""The demo ends well, shows what it promises, and leaves nothing behind."""

import io
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mauntic_jobs.demo.show import Show
from mauntic_jobs.demo.stage import Progress
from mauntic_jobs.demo.story import play
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.figures import chart
from tests.support import APP, build_program, command, environment, run_program, utc


def _quietly(_parts: int, _label: str) -> nullcontext[object]:
    return nullcontext(lambda: None)


_NO_PROGRESS: Progress = _quietly  # type: ignore[assignment]


def _played(now: str, *, width: int = 80, quick: bool = True) -> str:
    output = io.StringIO()
    play(utc(now), Console(file=output, width=width, markup=False, highlight=False), _NO_PROGRESS, quick=quick)
    return output.getvalue()


_PROGRAM: Any = build_program()
_GROUPS = ("dev", "db", "runs", "schedule", "show")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Make a directory that the servers' account can enter, which a pytest directory of root is not."""
    path = Path(tempfile.mkdtemp(prefix="demo-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def finished(place: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo as a program, off a terminal."""
    return run_program("demo", "--quick", TMPDIR=str(place))


def _assert_nothing_is_left(place: Path) -> None:
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert [line for line in listing.splitlines() if str(place) in line] == []
    assert list(place.iterdir()) == []


def test_the_demo_as_a_program_ends_well_and_leaves_nothing(
    finished: subprocess.CompletedProcess[str], place: Path
) -> None:
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.count("Nothing changed: 0 inserted, 0 updated, 0 removed") == 2
    assert "4 rows changed, all of" in finished.stdout
    _assert_nothing_is_left(place)


def test_all_six_jobs_run_and_run_again_without_changing_anything(
    finished: subprocess.CompletedProcess[str],
) -> None:
    again = finished.stdout.partition("Run all six again")[2].partition("Look at the ledger")[0]
    rows = re.findall(r"^   ([a-z-]+) +(\d+)  ", again, re.MULTILINE)
    assert rows == [(name, "0") for name in JOBS]
    first = finished.stdout.partition("Run all six again")[0]
    for job, happened in {
        "generate-daily-reports": r"events became [1-9]\d* rows; ",
        "monthly-usage-summary": r"events became [1-9]\d* rows\.",
        "segment-trigger-eval": r"([1-9]\d*) contacts entered; \1 jobs wait on the BullMQ queue",
        "stale-execution-cleanup": r"[1-9]\d* canceled, idle for more than a week\. [1-9]\d* stay active",
        "warmup-daily-reset": r"mail-1\.example\.com +192 +12$",
    }.items():
        scene = first.partition(f"$ mauntic-jobs {job}")[2]
        assert re.search(happened, re.sub(r"\n   (?=\w)", " ", scene) + "\n" + scene, re.MULTILINE), job


def test_a_campaign_is_delivered_on_three_channels_and_comes_back_as_events(
    finished: subprocess.CompletedProcess[str],
) -> None:
    scene = finished.stdout.partition("$ mauntic-jobs deliver --all --drain")[2].partition("Report on the campaigns")[0]
    rows = re.findall(r"^   (email|push|sms) +(\d+) +(\d+) +(\d+) +(\d+)  (\w+)$", scene, re.MULTILINE)
    assert rows == [
        ("email", "400", "398", "1", "1", "partial"),
        ("push", "200", "200", "0", "0", "sent"),
        ("sms", "60", "60", "0", "0", "sent"),
    ]
    events = re.findall(r"^   (\w+)_sent +([\d,]+) -> ([\d,]+)$", scene, re.MULTILINE)
    gained = {name: int(new.replace(",", "")) - int(old.replace(",", "")) for name, old, new in events}
    assert gained == {"email": 398, "push": 200, "sms": 60}


def test_off_a_terminal_it_prints_plain_lines(finished: subprocess.CompletedProcess[str]) -> None:
    assert re.search(r"[^\n\x20-\x7e▁-█]", finished.stdout) is None
    assert [line for line in finished.stdout.splitlines() if line != line.rstrip() or len(line) > 100] == []


def _commands(output: str) -> list[str]:
    """Return the commands that stand behind a $, those of several lines as one, without what is said of them."""
    joined = re.sub(r" \\\n +", " ", output)
    lines = re.findall(r"^   \$ (.+)$", joined, re.MULTILINE)
    return [found[1] for line in lines if (found := re.search(r"mauntic-jobs ((?:[^ )\"]+ ?)+)", line))]


def test_every_command_that_it_shows_is_one(finished: subprocess.CompletedProcess[str]) -> None:
    commands = [shlex.split(command) for command in _commands(finished.stdout)]
    named = {tuple(words[:2]) if words[0] in _GROUPS else words[0] for words in commands}
    shown = {("show", what) for what in ("rollups", "campaign", "usage", "journey")}
    others = {("dev", "up"), ("dev", "down"), ("dev", "psql"), ("runs", "list"), ("db", "upgrade"), "deliver"}
    assert named == {*shown, *others, ("schedule", "list"), *JOBS}
    for words in commands:
        assert parse(words) is not None


@pytest.mark.parametrize(
    "words", [["shwo"], ["show", "rollup"], ["show", "rollups", "--no"], ["runs", "list", "--limit", "x"]]
)
def test_a_command_that_is_none_is_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such|valid integer"):
        parse(words)


def parse(words: Sequence[str]) -> Any:
    """Return the values of a command line's options. Raises Typer's error about one that is not valid."""
    node, context = _PROGRAM, _PROGRAM.make_context("mauntic-jobs", list(words))
    while hasattr(node, "commands"):
        name, node, rest = node.resolve_command(context, [*context._protected_args, *context.args])
        context = node.make_context(name, rest, parent=context)
    return context.params


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_demo_and_leaves_nothing(place: Path, number: signal.Signals, status: int) -> None:
    with subprocess.Popen(
        command("demo"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(place)),
    ) as process:
        assert process.stdout
        assert next(line for line in process.stdout if line.startswith("3. Load"))
        process.send_signal(number)
        assert process.wait(60) == status
    _assert_nothing_is_left(place)


def test_where_blocks_cannot_be_written_it_prints_ascii(place: Path) -> None:
    finished = run_program("demo", "--quick", TMPDIR=str(place), PYTHONIOENCODING="ascii", LC_ALL="C")
    assert finished.returncode == 0
    assert finished.stdout.isascii()
    assert "###" in finished.stdout


def test_a_month_fits_a_terminal_of_80_columns() -> None:
    shown = _played("2026-10-20T09:30", quick=False)
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert "Driftmoor" in shown
    assert "31 runs, one a day" in shown


def _printed(line: str, url: str, width: int) -> list[str]:
    """Return what a command prints on a terminal of that width, without its styles."""
    environment = {"DATABASE_URL": url, "COLUMNS": str(width), "FORCE_COLOR": "1", "NO_COLOR": "1"}
    done = CliRunner().invoke(APP, shlex.split(line)[1:], env=environment)
    assert (done.exit_code, done.stderr) == (0, "")
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()


def test_each_command_of_figures_prints_what_the_demo_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    now, width, urls, printed = utc("2026-10-20T09:30"), 80, [], {}
    print_command = Show.command

    @contextmanager
    def kept() -> Iterator[Servers]:
        with throwaway() as servers:
            urls.append(servers.database_url)
            yield servers

    def typed(self: Show, line: str) -> None:
        print_command(self, line)
        if line.startswith("mauntic-jobs show "):
            with monkeypatch.context() as patch:
                patch.setattr("mauntic_jobs.timekeeping.clock.now", lambda: now)
                printed[line.removeprefix("mauntic-jobs ")] = _printed(line, urls[0], self.canvas.width)

    monkeypatch.setattr("mauntic_jobs.demo.story.throwaway", kept)
    monkeypatch.setattr(Show, "command", typed)
    shown = re.sub(r" \\\n +", " ", _played("2026-10-20T09:30", width=width))
    assert [line for line in printed if "--plot" in line]
    assert len(printed) == 5
    for line, lines in printed.items():
        table = shown.partition(f"$ mauntic-jobs {line}\n")[2].partition("\n\n")[0]
        assert [each.removeprefix("   ") for each in table.splitlines()] == lines, line
    # A wider terminal shows more.
    assert "bounced" not in shown


def test_a_wider_terminal_shows_more() -> None:
    shown = _played("2026-10-20T09:30", width=120)
    assert "bounced" in shown
    assert [line for line in shown.splitlines() if len(line) > 120] == []


# The window of the story ends with the last full hour: at midnight none of today's has passed.
@pytest.mark.parametrize("now", ["2026-10-20T00:00", "2026-10-20T00:59:59", "2026-03-01T23:59:59", "2028-03-01T00:30"])
def test_the_story_is_true_at_any_time_of_day(now: str) -> None:
    shown = _played(now)
    yesterday = {"2026-10-20": "2026-10-19", "2026-03-01": "2026-02-28", "2028-03-01": "2028-02-29"}[now[:10]]
    assert f"4 rows changed, all of {yesterday};" in shown


def test_a_sparkline_shows_the_most_as_full_and_only_nothing_as_blank() -> None:
    assert chart.sparkline([0, 1, 500, 1000], chart.BLOCKS) == " ▁▄█"
    assert chart.sparkline([0, 0], chart.BLOCKS) == "  "
    assert chart.sparkline([1, 8], chart.PLAIN) == ".@"


def test_bars_stand_on_each_other() -> None:
    assert chart.bars([0, 1, 12, 16], chart.BLOCKS, height=2, width=2) == ["    ▄ █", "  ▁ █ █"]
    assert chart.bars([16, 8], chart.PLAIN, height=2, width=1) == ["#", "##"]


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", chart.BLOCKS), ("ascii", chart.PLAIN), ("no such", chart.PLAIN)]
)
def test_what_is_drawn_with_follows_the_encoding(encoding: str, expected: str) -> None:
    assert chart.ramp(encoding) == expected
