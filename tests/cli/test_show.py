"""Figures as `show` prints them: sums, who wrote each, CSV, JSON, and what it says where there are none."""

import csv
import io
import json
import re
import shlex
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Window
from tests.support import APP, contact, day, organization, request, utc

NOW = utc("2026-11-06T09:30")
DAY = day("2026-11-05")
CAMPAIGN = UUID(int=77)
JOURNEY = UUID(int=99)
# By organization: type, contact, source.
EVENTS = [
    (1, "email_sent", 1, f"campaign:{CAMPAIGN}"),
    (1, "email_sent", 2, str(CAMPAIGN)),
    (1, "email_opened", 1, str(CAMPAIGN)),
    (1, "email_opened", 1, str(CAMPAIGN)),
    (1, "page_viewed", 1, None),
    (2, "sms_sent", 3, None),
]
ADD = b"""
INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)
VALUES (%(organization)s, %(contact)s, %(type)s, %(source)s, '2026-11-05 12:00')
"""
JOURNEYS = b"""
WITH journey AS (
    INSERT INTO journey.journeys (id, organization_id, name, status) VALUES (%(id)s, %(org)s, 'Welcome', 'active')
)
INSERT INTO journey.journey_executions
    (journey_id, journey_version_id, organization_id, contact_id, status, started_at)
SELECT %(id)s, gen_random_uuid(), %(org)s, gen_random_uuid(), status, '2026-11-05 10:00'
FROM unnest(ARRAY['active', 'active', 'failed']) AS status
"""


def add(session: Session, number: int, kind: str, who: int, source: str | None) -> None:
    values = {"organization": organization(number), "contact": contact(who), "type": kind, "source": source}
    session.execute(ADD, values)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mauntic_jobs.timekeeping.clock.now", lambda: NOW)


@pytest.fixture
def world(direct_settings: Settings) -> Settings:
    """Return a database in which each job has recorded a day: run 1 the rollups, 2 the campaigns, 3 the usage."""
    with connect(direct_settings) as session:
        for event in EVENTS:
            add(session, *event)
        session.execute(JOURNEYS, {"id": JOURNEY, "org": organization(1)})
    for job in ("aggregate-hourly", "generate-daily-reports", "monthly-usage-summary"):
        record(direct_settings, job)
    return direct_settings


def record(settings: Settings, job: str, **options: Any) -> None:
    month = Window(utc("2026-11-01"), utc("2026-12-01"))
    window = month if job == "monthly-usage-summary" else DAY
    assert run(request(settings, window, job, options=options)).error is None


def shown(settings: Settings, line: str) -> Result:
    assert settings.database_url
    environment = {"DATABASE_URL": settings.database_url.get_secret_value()}
    return CliRunner().invoke(APP, ["show", *shlex.split(line)], env=environment)


def rows(settings: Settings, line: str) -> list[dict[str, Any]]:
    done = shown(settings, f"{line} --json")
    assert (done.exit_code, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_rollups_come_with_the_runs_that_rebuilt_and_changed_them(world: Settings) -> None:
    record(world, "aggregate-hourly")
    with connect(world) as session:
        add(session, 1, "page_viewed", 2, None)
    record(world, "aggregate-hourly", org=[organization(1)])
    found = rows(world, "rollups --date 2026-11-05")
    assert [(row["event_type"], row["channel"], row["events"], row["contacts"]) for row in found] == [
        ("email_opened", "email", 2, 1),
        ("email_sent", "email", 2, 2),
        ("page_viewed", "other", 2, 2),
        ("sms_sent", "sms", 1, 1),
    ]
    # Runs 4 and 5: the one changed nothing, the other was limited to the first organization.
    first, last = found[0], found[-1]
    assert (last["organization_id"], last["run"], last["changed_run"]) == (str(organization(2)), 4, 1)
    assert (first["organization_id"], first["run"], first["changed_run"]) == (str(organization(1)), 5, 5)
    assert first["run_at"] == first["changed_at"] > last["run_at"] > last["changed_at"]


def test_rollups_are_summed_by_day_type_and_channel(world: Settings) -> None:
    by_day = rows(world, "rollups --last 3d --by day")
    assert [(row["date"], row["events"], row["contacts"], row["event_type"]) for row in by_day] == [
        ("2026-11-05", 6, None, None)
    ]
    by_type = rows(world, f"rollups --by type --org {organization(1)}")
    assert [(row["event_type"], row["events"]) for row in by_type] == [
        ("email_opened", 2), ("email_sent", 2), ("page_viewed", 1),
    ]  # fmt: skip
    assert {row["organization_id"] for row in by_type} == {str(organization(1))}
    by_channel = rows(world, "rollups --by channel")
    assert {row["channel"]: row["events"] for row in by_channel} == {"email": 4, "other": 1, "sms": 1}
    assert {row["changed_run"] for row in by_channel} == {1}


def test_campaigns_usage_and_journeys_come_with_their_runs(world: Settings, servers: Servers) -> None:
    (campaign,) = rows(world, f"campaign --date yesterday --campaign {CAMPAIGN}")
    figures = [campaign[name] for name in ("sent", "opened", "unique_opened", "clicked", "run", "changed_run")]
    assert figures == [2, 2, 1, 0, 2, 2]
    usage = rows(world, f"usage --month 2026-11 --org {organization(1)}")
    assert [(row["event_type"], row["events"], row["contacts"], row["run"]) for row in usage] == [
        ("email_opened", 2, 1, 3), ("email_sent", 2, 2, 3), ("page_viewed", 1, 1, 3),
    ]  # fmt: skip
    (journey,) = rows(world, "journey --date 2026-11-05")
    counts = [journey[name] for name in ("name", "entered", "active", "completed", "failed", "run")]
    assert counts == ["Welcome", 3, 2, 0, 1, None]
    assert journey["entered_at"] == "2026-11-05T10:00:00+00:00"
    record(Settings(**{**world.model_dump(), "redis_url": servers.redis_url}), "segment-trigger-eval")
    (journey,) = rows(world, f"journey --journey {JOURNEY}")
    assert (journey["run"], journey["changed_run"]) == (4, None)


_CAMPAIGN_FIELDS = (
    "campaign_id,organization_id,date,sent,delivered,opened,unique_opened,clicked,unique_clicked,bounced,complained,"
    "unsubscribed"
)
HEADERS = {
    "rollups": "organization_id,date,channel,event_type,events,contacts",
    "rollups --by type": "organization_id,date,channel,event_type,events,contacts",
    "campaign": _CAMPAIGN_FIELDS,
    "usage --month 2026-11": "organization_id,month,channel,event_type,events,contacts",
    "journey": "journey_id,organization_id,name,entered,active,completed,failed,canceled,entered_at",
}


def test_csv_has_the_rows_of_json_below_a_header_that_stays(world: Settings) -> None:
    for line, header in HEADERS.items():
        done = shown(world, f"{line} --csv")
        assert done.stdout.splitlines()[0] == f"{header},run,run_at,changed_run,changed_at"
        found = list(csv.DictReader(io.StringIO(done.stdout)))
        texts = [{name: "" if each is None else str(each) for name, each in row.items()} for row in rows(world, line)]
        assert found == texts != []


def test_tables_fit_80_columns_and_say_who_wrote_them(world: Settings) -> None:
    screen = {"COLUMNS": "80", "FORCE_COLOR": "1", "NO_COLOR": "1"}
    history = f"rollups --org {organization(1)} --history"
    for line in (
        history,
        "rollups",
        "rollups --plot",
        "rollups --by day",
        "campaign",
        "usage --month 2026-11",
        "journey",
    ):
        assert world.database_url
        url = {"DATABASE_URL": world.database_url.get_secret_value()}
        done = CliRunner().invoke(APP, ["show", *line.split()], env={**url, **screen})
        assert done.exit_code == ExitCode.DONE
        lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
        assert [each for each in lines if len(each) > 80] == []
        assert "--plot" in line or " run " in done.stdout
    assert f"{organization(1)}" in shown(world, "rollups --wide").stdout


def test_the_history_names_the_run_of_each_figure(world: Settings) -> None:
    with connect(world) as session:
        add(session, 1, "page_viewed", 2, None)
    record(world, "aggregate-hourly")
    line = f"rollups --date 2026-11-05 --org {organization(1)}"
    found = {row["event_type"]: (row["run"], row["changed_run"]) for row in rows(world, line)}
    # The ledger knows that run 4 changed something; the history, what it was.
    assert found == {"email_opened": (4, 1), "email_sent": (4, 1), "page_viewed": (4, 4)}
    history = rows(world, f"{line} --history")
    assert [(each["run"], each["kind"], each["figure"], each["old"], each["new"]) for each in history[:2]] == [
        (4, "page_viewed", "events", 1, 2),
        (4, "page_viewed", "contacts", 1, 2),
    ]
    assert {(each["run"], each["reason"], each["old"]) for each in history[2:]} == {(1, "rebuild", None)}
    (first, *_) = shown(world, f"{line} --history --csv").stdout.splitlines()
    assert first == "changed_at,run,reason,organization_id,bucket,kind,figure,old,new"
    campaign = rows(world, f"campaign --date 2026-11-05 --org {organization(1)} --campaign {CAMPAIGN} --history")
    assert [(each["figure"], each["new"]) for each in campaign] == [
        ("sent", 2), ("delivered", 0), ("opened", 2), ("unique_opened", 1), ("clicked", 0), ("unique_clicked", 0),
        ("bounced", 0), ("complained", 0), ("unsubscribed", 0),
    ]  # fmt: skip
    usage = rows(world, f"usage --month 2026-11 --org {organization(2)} --history")
    assert [(each["kind"], each["bucket"], each["run"]) for each in usage] == [
        ("monthly:sms_sent", "2026-11-01", 3)
    ] * 2
    assert "No changes are retained." in shown(world, f"usage --org {organization(1)} --history").stdout


REFUSED = {
    "rollups --history": "say of which organization",
    f"rollups --org {organization(9)}": "neither events nor rollups. Check --org.",
    f"campaign --campaign {UUID(int=5)}": "neither events nor figures. Check its id.",
    f"usage --org {organization(9)}": "neither events nor rollups. Check --org.",
    f"journey --journey {UUID(int=5)}": f"No journey {UUID(int=5)}. Check --journey.",
    f"journey --journey {JOURNEY} --org {organization(2)}": f"of organization {organization(2)}",
    f"journey --org {organization(9)}": "neither journeys nor contacts",
    "usage --month 2026-13": "write it like 2026-10",
    "usage --month 2027-01": "in the future",
    "rollups --date 2026-11-05 --last 3d": "Give only one of --date, --last.",
    "rollups --csv --json": "Say either --csv or --json.",
    "rollups --plot --by type": "leave out --by",
}
# What there is nothing of, and the command that records it.
EMPTY = {
    "rollups --date 2026-11-01": "aggregate-hourly --date 2026-11-01",
    f"rollups --month 2026-10 --org {organization(1)}": "aggregate-hourly --window 2026-10-01/2026-11-01 --org",
    f"campaign --date 2026-11-01 --campaign {CAMPAIGN}": f"--date 2026-11-01 --campaign {CAMPAIGN}",
    "usage": "monthly-usage-summary --month 2026-10",
    f"journey --date today --journey {JOURNEY}": f"segment-trigger-eval --journey {JOURNEY}",
}


def test_what_cannot_be_meant_is_refused(world: Settings) -> None:
    for line, said in REFUSED.items():
        done = shown(world, line)
        assert (done.exit_code, done.stdout) == (ExitCode.USAGE, ""), line
        assert said in done.stderr, line


def test_where_there_is_nothing_the_command_that_records_it_is_named(world: Settings) -> None:
    for line, command in EMPTY.items():
        done = shown(world, line)
        assert (done.exit_code, done.stdout) == (ExitCode.DONE, ""), line
        assert command in done.stderr, line
        assert shown(world, f"{line} --json").stdout == "[]\n", line
