"""The documents say what the program does."""

import re
import shlex
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.alerts.notify import notify
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.migrations.indexes import INDEXES
from mauntic_jobs.ops.monitor.ledger import watch_ledger
from mauntic_jobs.runner.request import Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.scheduler.due import Round
from mauntic_jobs.scheduler.overview import read_overview
from mauntic_jobs.settings.serialize import shown
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.sources import variable
from mauntic_jobs.stores.postgres.session import connect
from tests.support import Event, add_events, build_program, contact, day, organization, request, utc

_ROOT = Path(__file__).parent.parent
_PAGES = [
    *(_ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((_ROOT / "docs").rglob("*.md")),
]
_TEXT = {page: page.read_text() for page in _PAGES}
_EVERYTHING = "\n".join(_TEXT.values())


def _commands(group: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        found += _commands(command, (*path, name)) if hasattr(command, "commands") else [(*path, name)]
    return found


_COMMANDS = _commands(build_program())
_EXAMPLES = sorted(set(re.findall(r"^\$ mauntic-jobs (.+)$", _EVERYTHING, re.MULTILINE)))


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_every_command_is_documented(command: tuple[str, ...]) -> None:
    assert f"mauntic-jobs {' '.join(command)}" in _EVERYTHING


@pytest.mark.parametrize("example", _EXAMPLES)
def test_every_example_is_a_command_with_options_that_exist(example: str) -> None:
    words = shlex.split(example)
    command = next(path for path in _COMMANDS if tuple(words[: len(path)]) == path)
    node = build_program()
    for name in command:
        node = node.commands[name]
    options = {name for parameter in node.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def _options_of(page: str) -> set[str]:
    """Return the options that a page says about all commands or jobs that have them."""
    return set(re.findall(r"`(--[a-z-]+)", _TEXT[_ROOT / page]))


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_every_option_has_a_user_whom_a_page_tells_of_it(command: tuple[str, ...]) -> None:
    node = build_program()
    for name in command:
        node = node.commands[name]
    options = {each.opts[0] for each in node.params if each.opts[0].startswith("--") and not each.hidden}
    options -= _options_of("docs/configuration.md") | (_options_of("docs/runs.md") if command[0] in JOBS else set())
    about = "\n".join(text for text in _TEXT.values() if f"mauntic-jobs {' '.join(command)}" in text)
    assert {each for each in options if not re.search(rf"{each}(?![\w-])", about)} == set()


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_documented_with_its_variable_and_default(name: str) -> None:
    default = shown(Settings(), name)
    text = "none" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    assert f"| `{name}` | `{variable(name)}` | {text} |" in _TEXT[_ROOT / "docs/configuration.md"]


def test_every_exit_code_and_status_is_documented() -> None:
    text = _TEXT[_ROOT / "docs/runs.md"]
    assert [code for code in ExitCode if not re.search(rf"^\|[\d, ]*\b{code.value}\b", text, re.MULTILINE)] == []
    assert [status for status in Status if status is not Status.DRY_RUN and f"| `{status}` |" not in text] == []


@pytest.mark.parametrize("job", list(JOBS))
def test_every_job_has_a_page_with_its_cron_line_and_options(job: str) -> None:
    text = _TEXT[_ROOT / f"docs/jobs/{job}.md"]
    assert f"| cron | `{JOBS[job].cron}` |" in text
    assert [name for name in JOBS[job].options.model_fields if f"`--{name.replace('_', '-')}" not in text] == []


def test_every_index_is_documented() -> None:
    assert [index.name for index in INDEXES if index.name not in _TEXT[_ROOT / "docs/database.md"]] == []


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", _TEXT[page])
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def _documented_grants() -> list[str]:
    """Return the grants for the role that runs the jobs, and for the one that delivers."""
    return re.findall(r"```sql\n(.+?)```", _TEXT[_ROOT / "docs/database.md"], re.DOTALL)


# A contact that may enter a journey, and an execution that is stale.
_WORK = b"""
INSERT INTO crm.contacts (organization_id) VALUES (%(org)s);
WITH journey AS (
    INSERT INTO journey.journeys (organization_id, name, status) VALUES (%(org)s, 'j', 'active') RETURNING id
), version AS (
    INSERT INTO journey.journey_versions (journey_id, organization_id, version_number, definition, published_at)
    SELECT id, %(org)s, 1, '{}', '2026-01-01' FROM journey RETURNING id, journey_id
), step AS (
    INSERT INTO journey.journey_steps (journey_version_id, organization_id, type, config)
    SELECT id, %(org)s, 'action', '{}' FROM version
), segment AS (
    INSERT INTO crm.segments (organization_id, name, type) VALUES (%(org)s, 's', 'dynamic') RETURNING id
), stale AS (
    INSERT INTO journey.journey_executions
        (journey_id, journey_version_id, organization_id, contact_id, status, started_at)
    SELECT journey_id, id, %(org)s, gen_random_uuid(), 'active', '2026-01-01' FROM version
)
INSERT INTO journey.journey_triggers (journey_id, organization_id, type, config)
SELECT journey.id, %(org)s, 'segment', jsonb_build_object('segmentId', segment.id) FROM journey, segment
"""


def test_the_documented_permissions_are_enough_to_run_every_job(direct_settings: Settings, servers: Servers) -> None:
    assert direct_settings.database_url
    url = urlsplit(direct_settings.database_url.get_secret_value())
    database = url.path[1:]
    role = f"jobs_{database}"
    grants, _ = _documented_grants()
    now = utc("2026-11-05T10:00")
    with connect(direct_settings) as session:
        add_events(session, [Event(organization(1), contact(1), "email_sent", now - timedelta(days=30))])
        session.execute(_WORK, {"org": organization(1)})
        session.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'jobs'".encode())
        session.execute(grants.replace("platform", database).replace("jobs;", f"{role};").encode())
        session.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC".encode())
    limited = url._replace(netloc=f"{role}:jobs@{url.hostname}:{url.port}").geturl()
    settings = Settings(database_url=limited, redis_url=servers.redis_url, queue_prefix=database)
    done = {}
    for name, job in JOBS.items():
        # A month ago for the rollups; the others look at the present.
        window = day("2026-11-05") if job.bucket is None else day("2026-10-06")
        report = run(request(settings, window, name, now=now))
        assert report.error is None
        done[name] = {counter for counter, count in report.counters.items() if count}
    assert [report.error for report in Round(JOBS, settings, lambda: now, print, read_time=lambda *_: now).run()] == [
        None,
        None,
    ]
    with connect(settings) as session:
        standings = read_overview(Installation(settings, now, list(JOBS.values()), session=session))
        alert = Alert(Cause.JOB_FAILED, "aggregate-hourly", Severity.INFO, "It failed.", "Look.")
        notify(session, settings, [alert], now)
        watch_ledger(Installation(settings, now, list(JOBS.values()), session=session))
    assert [standing.job.name for standing in standings] == list(JOBS)
    assert "inserted" in done["aggregate-hourly"] & done["monthly-usage-summary"]
    assert "entered" in done["segment-trigger-eval"]
    assert "canceled" in done["stale-execution-cleanup"]
