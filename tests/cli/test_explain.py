"""Explanations of figures: which events count, which do not and why, and the same proof each time it is asked for."""

import json
import re
import shlex
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from mauntic_jobs import sql
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Window
from tests.support import APP, contact, day, organization, request, utc

NOW = utc("2026-11-06T09:30")
DAY = day("2026-11-05")
MONTH = Window(utc("2026-11-01"), utc("2026-12-01"))
CAMPAIGN = UUID("0d9f1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b")
# What stands in event_source, the event's type, and what becomes of the event for the campaign.
SOURCES = [
    (f"{CAMPAIGN}", "email_sent", "counted"),
    (f"campaign:{CAMPAIGN}", "email_opened", "counted"),
    (f"Campaign:{str(CAMPAIGN).upper()}", "email_opened", "counted"),
    (f"{CAMPAIGN} ", "email_opened", "other form"),
    (f" {CAMPAIGN}", "email_opened", "other form"),
    (CAMPAIGN.hex, "email_sent", "other form"),
    (f"{{{CAMPAIGN}}}", "email_sent", "other form"),
    (f"broadcast:{CAMPAIGN}", "email_sent", "other form"),
    (f"campaign: {CAMPAIGN}", "email_sent", "other form"),
    (None, "email_sent", "no source"),
    ("", "email_sent", "no campaign"),
    ("journey", "email_sent", "no campaign"),
    ("campaign:welcome", "push_sent", "no campaign"),
    (f"{UUID(int=5)}", "email_sent", "other campaign"),
    (f"campaign:{CAMPAIGN}", "sms_sent", "other channel"),
    (f"{CAMPAIGN}", "page_viewed", "no message event"),
]
ADD = b"""
INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)
VALUES (%(organization)s, %(contact)s, %(type)s, %(source)s, %(at)s)
"""


def add(session: Session, kind: str, source: str | None, at: datetime, *, who: int = 1, owner: int = 1) -> None:
    times = {"at": at.replace(tzinfo=None), "organization": organization(owner), "contact": contact(who)}
    session.execute(ADD, {**times, "type": kind, "source": source})


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mauntic_jobs.timekeeping.clock.now", lambda: NOW)


def record(settings: Settings, job: str, window: Window = DAY) -> None:
    assert run(request(settings, window, job)).error is None


def explained(settings: Settings, line: str) -> Result:
    assert settings.database_url
    environment = {"DATABASE_URL": settings.database_url.get_secret_value()}
    return CliRunner().invoke(APP, ["explain", *shlex.split(line)], env=environment)


def proof(settings: Settings, line: str, status: ExitCode = ExitCode.DONE) -> dict[str, Any]:
    done = explained(settings, f"{line} --json")
    assert (done.exit_code, done.stderr) == (status, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_event_counts_for_a_campaign_or_it_is_said_why_not(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        for number, (source, kind, _) in enumerate(SOURCES):
            add(session, kind, source, utc("2026-11-05T12:00") + timedelta(seconds=number))
    record(direct_settings, "generate-daily-reports")
    found = proof(direct_settings, f"campaign {CAMPAIGN}")
    groups = [(each["source"], each["event_type"], each["attribution"]) for each in found["groups"]]
    # The source of another campaign is its own.
    expected = [(None if reason == "other campaign" else source, kind, reason) for source, kind, reason in SOURCES]
    assert Counter(groups) == Counter(expected)
    assert {len(each["examples"]) for each in found["groups"]} == {1}
    assert (found["channel"], found["agrees"], found["over"], found["date"]) == ("email", True, True, "2026-11-05")
    counts = {name: count for name, count in found["counted"].items() if count}
    assert counts == {"sent": 1, "opened": 2, "unique_opened": 1}
    assert (found["recorded"], found["run"], found["changed_run"]) == (found["counted"], 1, 1)
    assert [(each["figure"], each["new"]) for each in found["changes"]][:3] == [
        ("sent", 1),
        ("delivered", 0),
        ("opened", 2),
    ]
    text = explained(direct_settings, f"campaign {CAMPAIGN}").stdout
    assert "The figures are what a recount of the events says. They count email events." in text
    assert "6 events not counted: has the campaign's id, but is neither ID nor campaign:ID" in text
    assert "Events of that day that name another campaign: 1." in text


def test_a_campaign_that_differs_names_the_command_or_why_it_is_withheld(direct_settings: Settings) -> None:
    late = b"INSERT INTO mauntic_jobs.late_events VALUES ('2026-11-05', %(organization)s, '2026-11-07 02:00+00', 3)"
    with connect(direct_settings) as session:
        add(session, "email_sent", str(CAMPAIGN), utc("2026-11-05T12:00"))
        absent = proof(direct_settings, f"campaign {CAMPAIGN} --date yesterday", ExitCode.PARTIAL)
        assert (absent["recorded"], absent["counted"]["sent"], absent["run"], absent["runs"]) == (None, 1, None, [])
        record(direct_settings, "generate-daily-reports")
        add(session, "email_sent", str(CAMPAIGN), utc("2026-11-05T23:59:59.999"))
        add(session, "email_sent", str(CAMPAIGN), utc("2026-11-06T00:00"))
        session.execute(late, {"organization": organization(1)})
        found = proof(direct_settings, f"campaign {CAMPAIGN}", ExitCode.PARTIAL)
        assert (found["recorded"]["sent"], found["counted"]["sent"], found["withheld"]) == (1, 2, None)
        assert found["late"] == [{"found_at": "2026-11-07T02:00:00+00:00", "events": 3}]
        text = explained(direct_settings, f"campaign {CAMPAIGN}").stdout
        assert "The figures differ from a recount in sent." in text
        ids = f"--org {organization(1)} --campaign {CAMPAIGN}"
        assert f"\n    mauntic-jobs generate-daily-reports --date 2026-11-05 {ids}\n" in text
        session.execute(b"DELETE FROM analytics.contact_activity WHERE created_at < '2026-11-06'")
        found = proof(direct_settings, f"campaign {CAMPAIGN}", ExitCode.PARTIAL)
        assert (found["counted"], found["withheld"], found["groups"]) == (None, "shrinks", [])
        # Nothing of it is left behind, and nothing was written.
        assert session.rows(b"SELECT sent FROM analytics.campaign_daily_stats") == [{"sent": 1}]


def test_a_campaign_of_several_organizations_or_of_none_is_refused(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        for owner in (1, 2):
            add(session, "email_sent", str(CAMPAIGN), utc("2026-11-05T12:00"), owner=owner)
    refusals = {
        f"campaign {CAMPAIGN}": "2 organizations have the campaign",
        f"campaign {UUID(int=8)}": "neither events nor figures. Check its id.",
        f"campaign {CAMPAIGN} --date 2026-11-04": "no events on 2026-11-04/2026-11-05: name another day",
        f"campaign {CAMPAIGN} --org {organization(3)}": "has neither figures of campaign",
        f"campaign {CAMPAIGN} --date tomorrow": "today or yesterday",
        "campaign welcome": "UUID",
        f"usage --org {organization(3)} --month 2026-11": "neither events nor rollups",
        f"usage --org {organization(1)} --month 2027-11": "in the future",
        "usage": "--org",
    }
    for line, said in refusals.items():
        done = explained(direct_settings, line)
        assert (done.exit_code, done.stdout) == (ExitCode.USAGE, ""), line
        assert said.lower() in done.stderr.lower(), line
    assert (
        proof(direct_settings, f"campaign {CAMPAIGN} --org {organization(2)}", ExitCode.PARTIAL)["counted"]["sent"] == 1
    )


def _reference(session: Session) -> dict[tuple[str, str], tuple[int, str, str]]:
    """Return the events, the first and the last id of the first organization by day and type, by another way."""
    groups: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
    for row in session.rows(b"SELECT * FROM analytics.contact_activity"):
        if row["organization_id"] == organization(1):
            key = (str(row["created_at"].date()), row["event_type"])
            groups.setdefault(key, []).append((row["created_at"], str(row["id"])))
    return {key: (len(each), min(each)[1], max(each)[1]) for key, each in groups.items()}


def test_usage_is_proved_by_its_events_the_same_each_time(direct_settings: Settings) -> None:
    line = f"usage --org {organization(1)} --month 2026-11"
    with connect(direct_settings) as session:
        for number in range(60):
            at = utc("2026-11-01T00:00") + timedelta(hours=number % 7 * 11, microseconds=number * 100_000)
            kind = ("email_sent", "page_viewed")[number % 2]
            add(session, kind, None, at, who=number % 5, owner=1 + number % 3 // 2)
        # Two at the same time are told apart by their ids.
        for _ in range(2):
            add(session, "email_sent", None, utc("2026-11-03T23:59:59.999999"), who=9)
        record(direct_settings, "aggregate-hourly", day("2026-11-01", 4))
        said = " ".join(explained(direct_settings, line).stdout.split())
        assert "Nothing is recorded, though there are 42 events. The month is not over. To record" in said
        record(direct_settings, "monthly-usage-summary", MONTH)
        found = proof(direct_settings, line)
        reference = _reference(session)
        days = {
            (each["date"], each["event_type"]): (each["events"], each["first_id"], each["last_id"])
            for each in found["days"]
        }
        assert days == reference
        assert [each["events"] for each in found["days"]] == [each["rollup_events"] for each in found["days"]]
        for kind in found["types"]:
            events = sum(count for (_, each), (count, _, _) in reference.items() if each == kind["event_type"])
            assert (kind["events"], kind["counted_events"], kind["rollup_events"]) == (events, events, events)
            assert kind["agrees"]
        sent = next(each for each in found["types"] if each["event_type"] == "email_sent")
        assert (sent["contacts"], sent["last_at"]) == (6, "2026-11-03T23:59:59.999999+00:00")
        assert (found["agrees"], found["over"], found["run"], found["runs"][0]["changed"]) == (True, False, 2, True)
        assert explained(direct_settings, line).stdout == explained(direct_settings, line).stdout
        changes = {(each["kind"], each["figure"]): each["new"] for each in found["changes"]}
        assert changes["monthly:email_sent", "events"] == sent["events"]
        assert "a recount agrees. The month is not over." in " ".join(explained(direct_settings, line).stdout.split())
        add(session, "email_sent", None, utc("2026-11-30T23:59"), who=1)
        add(session, "email_sent", None, utc("2026-12-01T00:00"), who=1)
        found = proof(direct_settings, line, ExitCode.PARTIAL)
        sent = next(each for each in found["types"] if each["event_type"] == "email_sent")
        assert (sent["counted_events"] - sent["events"], sent["agrees"], sent["contacts"]) == (1, False, 6)
        assert found["days"][-1]["date"] == "2026-11-30"
        command = f"mauntic-jobs monthly-usage-summary --month 2026-11 --org {organization(1)}"
        assert f"\n    {command}\n" in explained(direct_settings, line).stdout


def test_days_are_those_of_utc_whatever_zone_the_platform_writes(direct_settings: Settings) -> None:
    settings = Settings(**{**direct_settings.model_dump(), "platform_timezone": "America/New_York"})
    with connect(settings) as session:
        # In New York it is still the evening before.
        add(session, "email_sent", str(CAMPAIGN), datetime(2026, 11, 4, 19, 30, tzinfo=UTC))
    record(settings, "monthly-usage-summary", MONTH)
    assert settings.database_url
    url = settings.database_url.get_secret_value()
    environment = {"DATABASE_URL": url, "MAUNTIC_PLATFORM_TIMEZONE": "America/New_York"}
    words = ["explain", "usage", "--org", str(organization(1)), "--month", "2026-11", "--json"]
    found = json.loads(CliRunner().invoke(APP, words, env=environment).stdout)
    (only,) = found["days"]
    assert (only["date"], only["first_at"]) == ("2026-11-05", "2026-11-05T00:30:00+00:00")


def test_the_pattern_of_a_campaigns_source_is_the_same_everywhere() -> None:
    text = "\n".join(path.read_text("utf-8") for path in Path(sql.__file__).parent.glob("*.sql"))
    patterns = re.findall(r"event_source COLLATE \"C\"\s+~\*\s+('\^\(campaign:\)[^']*')", text)
    assert len(patterns) == 4
    assert len(set(patterns)) == 1
