"""The JSON of every command is what its schema in docs/json says."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from mauntic_jobs.cli.documents.runs import RunJson
from mauntic_jobs.cli.documents.schedule import SlotJson
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.restrictions import RestrictedScope, restrict
from mauntic_jobs.ops.turn_weights import set_weight
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.settings.settings import Settings
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World, new_world
from tests.ops.dead_letters.failing import fail_jobs, hours_ago, program
from tests.schemas import DIRECTORY, Words, check, check_output, file_of, printed, schemas, with_option
from tests.support import Event, add_events, contact, day, organization, request, scheduled_only

JOURNEY = organization(9)
_PAGE = (DIRECTORY.parent / "json.md").read_text("utf-8")
# Command lines by what they print; each is of the world below. The jobs are added to them.
_LINES = """
alerts list
alerts test
backfill run aggregate-hourly --last 2d --dry-run
backfill run generate-daily-reports --last 3d --reprocess all
backfill plan generate-daily-reports --last 3d --reprocess all --out {plan}
backfill resume 2
backfill list
backfill show 2
backfill pause 1
backfill cancel 1
config show
coverage
db prune --dry-run
db prune --older-than runs=1000d
db status
deliveries list --reveal
deliveries explain {ambiguous}
deliveries warm-up
deliveries list --count
deliveries restrictions
deliveries weights
deliveries list --state failed --org {organization}
deliveries show {ambiguous}
deliveries show {failed} --reveal
deliveries resend --state failed --campaign {campaign} --dry-run
deliveries resend --state expired --dry-run
deliveries resend --state failed --campaign {campaign}
deliveries reconcile
dev status
dlq list
dlq list --jobs
dlq show delivery:send-email/dead --reveal
dlq show run/1
dlq retry run/1
dlq retry --where error~421 --dry-run
dlq discard delivery:send-email/dead
doctor
explain campaign {counted} --org {owner}
explain contact {person} --journey {journey}
explain usage --org {owner}
monitor check
monitor run --once
outbox publish
providers list
providers limits
providers check
providers check --retry-now
recover
recover --yes
runs list
runs show 1
show campaign --last 3d
show journey
show rollups --last 3d
show usage
show usage --org {owner} --history
schedule list
schedule next
schedule set warmup-daily-reset --cron '30 0 * * *'
schedule unset warmup-daily-reset
schedule register --dry-run
schedule register
schedule unregister
schedule run --dry-run
schedule run
backfill plan aggregate-hourly --last 9d --reprocess all --out {plan}
backfill apply {plan}
status
verify
verify aggregate-hourly --last 2d --repair
verify monthly-usage-summary --last 90d --sample 50% --seed 7
"""


def _words(line: str) -> Words:
    return next(words for words in printed() if tuple(line.split()[: len(words)]) == words)


@pytest.mark.parametrize("words", sorted(with_option()), ids=" ".join)
def test_every_command_with_json_declares_what_it_prints(words: Words) -> None:
    assert printed()[words] is not None


def test_the_schema_files_are_those_of_the_declared_types() -> None:
    files = {path.name: path.read_text("utf-8") for path in DIRECTORY.iterdir()}
    assert files == schemas(), "docs/json is not current: run python -m tests.schemas"


@pytest.mark.parametrize("words", sorted(words for words, kind in printed().items() if kind), ids=" ".join)
def test_every_schema_is_on_the_page(words: Words) -> None:
    command = "JOB" if file_of(words) == "job.json" else " ".join(words)
    assert f"| `{command}` | [{file_of(words)}](json/{file_of(words)}) |" in _PAGE


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (SlotJson, {"slot": "2026-10-05T10:00:00+00:00", "job": "j", "more": 1}),
        (SlotJson, {"slot": "2026-10-05T10:00:00", "job": "j"}),
        (SlotJson, {"slot": "2026-10-05T12:00:00+02:00", "job": "j"}),
        (SlotJson, {"slot": "2026-10-05 10:00:00+00:00", "job": "j"}),
        (SlotJson, {"slot": "2026-10-05T10:00:00+00:00", "job": 1}),
        (SlotJson, {"slot": "2026-10-05T10:00:00+00:00"}),
        (list[RunJson], {}),
    ],
)
def test_other_json_than_declared_is_noticed(kind: object, document: object) -> None:
    check(SlotJson, '{"slot": "2026-10-05T10:00:00+00:00", "job": "j"}')
    with pytest.raises((ValidationError, AssertionError)):
        check(kind, json.dumps(document))
    with pytest.raises((ValidationError, AssertionError)):
        check_output(["schedule", "next", "--json"], json.dumps(document))


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


@pytest.fixture
def world(direct_settings: Settings, servers: Servers, sink: Sink) -> Iterator[World]:
    """Yield a world with a delivery in each of several states, a campaign that lacks messages, and dead letters."""
    with new_world(direct_settings, servers.redis_url) as made:
        made.provider(sink.host, sink.port)
        made.provider_of("sms", "twilio", {"accountSid": "AC"})
        add_events(made.session, [Event(organization(1), contact(1), "email_sent", hours_ago(30))])
        made.session.execute(
            b"INSERT INTO analytics.campaign_daily_stats (campaign_id, organization_id, date, sent)"
            b" VALUES (%(campaign)s, %(owner)s, '2026-10-01', 1)",
            {"campaign": organization(7), "owner": organization(1)},
        )
        run = claims.acquire(made.session, request(made.settings, day("2026-10-01"), "generate-daily-reports"), 1)
        claims.fail(made.session, run, "it broke")
        made.session.execute(
            b"INSERT INTO mauntic_jobs.backfills (job, range_start, range_end, reprocess, newest_first, parallel,"
            b" stop_after_failures, host, pid) VALUES ('monthly-usage-summary', '2020-01-01', '2020-02-01',"
            b" '{missing}', false, 1, 5, 'h', 1)"
        )
        made.session.execute(
            b"INSERT INTO journey.journeys (id, organization_id, name, status)"
            b" VALUES (%(journey)s, %(owner)s, 'j', 'active')",
            {"journey": JOURNEY, "owner": organization(1)},
        )
        made.session.execute(
            b"INSERT INTO crm.contacts (id, organization_id) VALUES (%(person)s, %(owner)s)",
            {"person": organization(8), "owner": organization(1)},
        )
        person = str(made.contact())
        own = {"jobId": str(made.campaign(9)), "contactId": person}
        made.add(
            made.message("ambiguous", emailAddress="drop-after-dot@example.com", **own),
            made.message("failed", emailAddress="not an address", **own),
            made.message("sent", **own),
            made.message("later", emailAddress="defer-once-451@example.com", **own),
        )
        made.deliver()
        made.hurry()
        made.deliver()
        for scope, end in ((RestrictedScope(made.organization, "sms"), None), (RestrictedScope(), hours_ago(-9))):
            restrict(made.session, scope, rate=0, why="w", by="ops", now=hours_ago(1), until=end)
        set_weight(made.session, made.organization, 3, why="w", by="ops", now=hours_ago(1))
        fail_jobs(made, [("dead", made.message("never"), "421 too many connections")], at=hours_ago(30))
        made.add(made.message("waits", **own), made.message("waits-too"))
        yield made


def _run(world: World, line: str, tmp_path: Path) -> None:
    campaign = world.session.row(b"SELECT id FROM delivery.delivery_jobs")["id"]
    names = {"ambiguous": world.key("ambiguous"), "failed": world.key("failed"), "campaign": campaign}
    names |= {"organization": world.organization, "plan": tmp_path / "plan.json"}
    names |= {"owner": organization(1), "counted": organization(7), "journey": JOURNEY, "person": organization(8)}
    unreachable = json.dumps([{"type": "slack", "url": "http://127.0.0.1:1/x"}])
    variables = {
        "MAUNTIC_ALERTS": unreachable,
        "MAUNTIC_DEV_DIR": str(tmp_path / "dev"),
        "MAUNTIC_JOBS": scheduled_only("aggregate-hourly"),
        "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    done = program(world, *shlex.split(line.format(**names)), **variables)
    assert done.stdout, f"{line}: {done.stderr}"
    assert done.exception is None or isinstance(done.exception, SystemExit), line


def test_every_command_prints_what_its_schema_says(world: World, tmp_path: Path) -> None:
    jobs = [f"{name} --last 1d --dry-run" for name in JOBS]
    runs = ["aggregate-hourly --last 2d", "aggregate-hourly --slot latest"]
    lines = [f"{line} --json" for line in (*jobs, *runs, *_LINES.strip().splitlines())]
    assert {_words(line) for line in lines} == with_option()
    for line in [*lines, "dlq export -"]:
        _run(world, line, tmp_path)
