"""What a human does with the ledger: listing, showing, resolving, and putting right what Redis has lost."""

import json
from contextlib import closing
from datetime import timedelta
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.ledger import reconcile as reconciliation
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.delivery.ledger_calls import claim
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import run_program


def program(world: World, *arguments: str, **extra: str) -> CompletedProcess[str]:
    assert world.settings.redis_url
    return run_program(
        *arguments,
        settings=world.settings,
        REDIS_URL=world.settings.redis_url.get_secret_value(),
        MAUNTIC_QUEUE_PREFIX=world.settings.queue_prefix,
        MAUNTIC_ALLOWED_NETWORKS="127.0.0.0/8",
        **extra,
    )


@pytest.fixture
def doubtful(world: World, sink: Sink) -> World:
    """Return a world with one delivery that a human must decide about."""
    world.provider(sink.host, sink.port)
    job, contact = world.campaign(1), world.contact()
    world.add(
        world.message(emailAddress="drop-after-dot@example.com", jobId=str(job), contactId=str(contact)), ids=["j1"]
    )
    world.deliver()
    world.hurry()
    world.deliver()
    assert world.states() == {"d1": "ambiguous"}
    return world


def test_the_list_names_what_is_ambiguous(doubtful: World) -> None:
    done = program(doubtful, "deliveries", "list", "--state", "ambiguous", "--json")
    (row,) = json.loads(done.stdout)
    assert (row["delivery_id"], row["state"], row["attempts"]) == (doubtful.key("d1"), "ambiguous", 2)
    assert program(doubtful, "deliveries", "list", "--state", "sent", "--json").stdout.strip() == "[]"
    counts = json.loads(program(doubtful, "deliveries", "list", "--count", "--json").stdout)
    assert [(each["channel"], each["state"], each["deliveries"]) for each in counts] == [("email", "ambiguous", 1)]


def test_show_has_the_whole_trace(doubtful: World) -> None:
    row = json.loads(program(doubtful, "deliveries", "show", doubtful.key("d1"), "--json").stdout)
    assert [each["outcome"] for each in row["attempts"]] == ["unknown", "unknown"]
    text = program(doubtful, "deliveries", "show", doubtful.key("d1")).stdout
    assert "attempt 2" in text
    missing = program(doubtful, "deliveries", "show", "nothing")
    assert (missing.returncode, missing.stderr) == (2, "mauntic-jobs: The ledger has no delivery nothing.\n")


def test_what_a_human_says_was_sent_is_counted(doubtful: World, sink: Sink) -> None:
    done = program(doubtful, "deliveries", "resolve", doubtful.key("d1"), "--sent")
    assert done.returncode == 0, done.stderr
    assert doubtful.states() == {"d1": "sent"}
    (job,) = doubtful.session.rows(b"SELECT sent_count, status FROM delivery.delivery_jobs")
    assert (job["sent_count"], job["status"]) == (1, "sent")
    assert len(sink.messages()) == 2
    again = program(doubtful, "deliveries", "resolve", doubtful.key("d1"), "--sent")
    assert again.returncode == 4


def test_what_a_human_says_was_sent_is_an_activity_where_these_are_recorded(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    contact, campaign = world.contact(), str(uuid4())
    own = {"contactId": str(contact), "campaignId": campaign, "emailAddress": "drop-after-dot@example.com"}
    world.add(world.message(**own))
    world.deliver()
    done = program(world, "deliveries", "resolve", world.key("d1"), "--sent", MAUNTIC_RECORD_ACTIVITY="true")
    assert done.returncode == 0, done.stderr
    (row,) = world.session.rows(b"SELECT event_type, event_source, contact_id FROM analytics.contact_activity")
    assert (row["event_type"], row["event_source"], row["contact_id"]) == ("email_sent", campaign, contact)


def test_what_a_human_sends_again_is_sent(doubtful: World, sink: Sink) -> None:
    sink.behaviour.recipients["drop-after-dot"] = "slow"
    done = program(doubtful, "deliveries", "resolve", doubtful.key("d1"), "--resend")
    assert done.returncode == 0, done.stderr
    before = len(sink.messages())
    doubtful.deliver()
    assert len(sink.messages()) == before + 1
    (row,) = doubtful.ledger()
    assert row["possible_duplicate"]


def test_a_failure_that_is_sent_again_is_no_longer_counted(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    job = world.campaign(1)
    world.add(world.message(emailAddress="policy-550@example.com", jobId=str(job), contactId=str(world.contact())))
    world.deliver()
    assert program(world, "deliveries", "resolve", world.key("d1"), "--resend").returncode == 0
    (row,) = world.session.rows(b"SELECT failed_count, status, completed_at FROM delivery.delivery_jobs")
    assert (row["failed_count"], row["status"], row["completed_at"]) == (0, "sending", None)
    world.deliver()
    (row,) = world.session.rows(b"SELECT failed_count, status FROM delivery.delivery_jobs")
    assert (row["failed_count"], row["status"]) == (1, "failed")


def test_reconcile_puts_back_what_redis_lost_and_nothing_twice(world: World, sink: Sink) -> None:
    world.add(*(world.message(f"d{n}") for n in range(5)))
    world.deliver()
    assert set(world.states().values()) == {"deferred"}
    for key in world.ask("KEYS", f"{world.settings.queue_prefix}:*"):
        world.ask("DEL", key.decode())
    world.provider(sink.host, sink.port)
    first = json.loads(program(world, "deliveries", "reconcile", "--json").stdout)
    second = json.loads(program(world, "deliveries", "reconcile", "--json").stdout)
    assert (first["owed"], first["queued"], second["queued"]) == (5, 5, 0)
    world.deliver()
    world.hurry()
    world.deliver()
    assert set(world.states().values()) == {"sent"}
    assert len(sink.messages()) == 5


def test_what_fails_before_its_claim_is_queued_again_each_time(world: World, sink: Sink) -> None:
    claim(world, world.key("d1"), payload=world.message())
    world.write("UPDATE mauntic_jobs.deliveries SET state = 'claimed', until = NULL")
    named = []
    for _ in range(3):
        first, second = (json.loads(program(world, "deliveries", "reconcile", "--json").stdout) for _ in range(2))
        assert (first["owed"], first["queued"], second["queued"]) == (1, 1, 0)
        (name,) = world.jobs_in("wait")
        named.append(name)
        world.ask("LREM", f"{world.base}:wait", 0, name)
        world.ask("ZADD", f"{world.base}:failed", 1, name)
    assert len(set(named)) == 3
    assert json.loads(program(world, "deliveries", "reconcile", "--json").stdout)["queued"] == 1
    world.provider(sink.host, sink.port)
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent"}, 1)


def test_a_kill_after_the_addition_adds_no_second_job(world: World) -> None:
    claim(world, world.key("d1"), payload=world.message())
    world.write("UPDATE mauntic_jobs.deliveries SET state = 'claimed', until = NULL")
    assert json.loads(program(world, "deliveries", "reconcile", "--json").stdout)["queued"] == 1
    # As it was before the addition was noted.
    world.write("UPDATE mauntic_jobs.deliveries SET queue_job = 'j1'")
    assert json.loads(program(world, "deliveries", "reconcile", "--json").stdout)["queued"] == 0
    (row,) = world.ledger()
    assert world.jobs_in("wait") == [row["queue_job"]]


def test_reconcile_closes_campaigns_whose_last_message_the_node_engine_counted(world: World) -> None:
    done, open_still = world.campaign(2), world.campaign(2)
    world.write(
        "UPDATE delivery.delivery_jobs SET status = 'sending', sent_count = 1, failed_count = 1 WHERE id = %(done)s",
        done=done,
    )
    world.write("UPDATE delivery.delivery_jobs SET sent_count = 1 WHERE id = %(open)s", open=open_still)
    assert json.loads(program(world, "deliveries", "reconcile", "--json").stdout)["closed"] == 1
    rows = world.session.rows(b"SELECT id, status, completed_at IS NULL AS open FROM delivery.delivery_jobs")
    assert {row["id"]: (row["status"], row["open"]) for row in rows} == {
        done: ("partial", False),
        open_still: ("queued", True),
    }


def test_reconcile_names_campaigns_with_messages_missing(world: World) -> None:
    job = world.campaign(3)
    world.add(world.message("d1", jobId=str(job)))
    done = json.loads(program(world, "deliveries", "reconcile", "--json").stdout)
    ((known, queued),) = [(each["known"], each["queued"]) for each in done["missing"]]
    assert (known, queued) == (0, 1)


def test_queues_are_read_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.campaign(9)
    world.add(*(world.message(f"d{number}", jobId=str(job)) for number in range(5)))
    monkeypatch.setattr(reconciliation, "_PAGE", 2)
    lengths = []
    with closing(open_redis(world.settings)) as redis:
        real = redis.command

        def counted(*words: Any) -> Any:
            answer = real(*words)
            if words[0] in ("LRANGE", "ZRANGE"):
                lengths.append(len(answer))
            return answer

        monkeypatch.setattr(redis, "command", counted)
        done = reconciliation.reconcile(world.session, redis, world.settings, clock.now())
    assert [(each["known"], each["queued"]) for each in done.missing] == [(0, 5)]
    assert sorted(set(lengths)) == [0, 1, 2]


def test_a_transactional_test_message_reaches_a_contact_that_has_unsubscribed(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.contact(email="ann@example.com", status="unsubscribed")
    words = ("enqueue", "email", "--to", "ann@example.com", "--body", "x", "--org", str(world.organization))
    for more in ((), ("--transactional",)):
        assert program(world, *words, "--subject", "s", *more).returncode == 0
        world.deliver()
    assert sorted(row["state"] for row in world.ledger()) == ["sent", "suppressed"]


def test_enqueued_messages_are_delivered(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    template = world.template(subject="Hi", body_html="<p>Hi</p>")
    done = program(world, "enqueue", "email", "--to", "ann@example.com", "--template", str(template), "--count", "3")
    assert done.stdout == f"3 messages on {world.base}\n"
    delivered = program(world, "deliver", "email", "--drain")
    assert delivered.returncode == 0, delivered.stderr
    assert len(sink.messages()) == 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("deliver", "fax"), "There is no channel fax. The channels are: email, sms, push."),
        (
            ("deliver", "--concurrency", "email=0"),
            "--concurrency email=0 is not like email=5, with a number from 1 to 1000.",
        ),
        (("deliver", "--max-age", "soon"), "soon"),
        (("enqueue", "email", "--to", "a@b.example"), "Say what the message is made of: --template or --body."),
        (("enqueue", "email", "--to", "a@b.example", "--body", "x"), "Say whose message it is: --org."),
        (("deliveries", "list", "--state", "lost"), "There is no state lost."),
        (("deliveries", "resolve", "d1"), "Say either --sent or --resend."),
        (("deliveries", "resend"), "Name the campaign"),
        (("deliveries", "resend", "--state", "sent"), "--state is failed or expired, not sent."),
    ],
)
def test_bad_input_is_a_usage_error(world: World, arguments: tuple[str, ...], problem: str) -> None:
    done = program(world, *arguments)
    assert done.returncode == 2
    assert problem in done.stderr


def test_a_database_without_the_ledger_is_a_configuration_error(world: World) -> None:
    world.session.execute(b"DROP TABLE mauntic_jobs.deliveries CASCADE")
    done = program(world, "deliver", "email", "--drain")
    assert done.returncode == 78
    assert "db upgrade" in done.stderr


def test_the_same_id_of_two_organizations_has_to_be_told_apart(world: World) -> None:
    world.add(world.message())
    world.deliver()
    world.organization = uuid4()
    world.add(world.message())
    world.deliver()
    done = program(world, "deliveries", "show", world.key("d1"))
    assert done.returncode == 2
    assert "say which with --org" in done.stderr
    assert program(world, "deliveries", "show", world.key("d1"), "--org", str(world.organization)).stdout


def test_only_what_failed_of_a_campaign_is_sent_again(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    campaign = world.campaign(4)
    sink.behaviour.recipients |= {"bo": "policy-550", "cy": "data-554", "di": "drop-after-dot"}
    messages = [
        world.message(name, emailAddress=f"{name}@example.com", jobId=str(campaign))
        for name in ("ann", "bo", "cy", "di")
    ]
    world.add(*messages)
    world.deliver()
    assert world.states() == {"ann": "sent", "bo": "failed", "cy": "failed", "di": "ambiguous"}
    sink.behaviour.recipients.clear()
    assert resent(world, "--campaign", str(campaign), "--dry-run")["failed"] == 2
    unknown = program(world, "deliveries", "resend", "--campaign", str(uuid4()))
    assert (unknown.returncode, "There is no campaign" in unknown.stderr) == (2, True)
    assert resent(world, "--campaign", str(campaign), "--reason", "REFUSED BY POLICY") == {
        "queued": 1,
        "refused": 0,
        "without_content": 0,
        "reasons": [],
    }
    before = len(sink.messages())
    world.deliver()
    assert world.states() == {"ann": "sent", "bo": "sent", "cy": "failed", "di": "ambiguous"}
    assert [each.recipients for each in sink.messages()[before:]] == [("bo@example.com",)]
    (row,) = world.session.rows(b"SELECT sent_count, failed_count FROM delivery.delivery_jobs")
    assert (row["sent_count"], row["failed_count"]) == (2, 1)


def test_what_expired_is_sent_after_all(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    campaign = world.campaign(2)
    world.add(world.message("d1", jobId=str(campaign)), world.message("d2", jobId=str(campaign)))
    world.deliver(max_age=timedelta(0))
    other = world.organization
    world.organization = uuid4()
    world.provider(sink.host, sink.port)
    world.add(world.message("d3"))
    world.deliver(max_age=timedelta(0))
    assert world.states() == {"d1": "expired", "d2": "expired", "d3": "expired"}
    (row,) = world.session.rows(b"SELECT failed_count, status FROM delivery.delivery_jobs")
    assert row == {"failed_count": 2, "status": "failed"}
    shown = resent(world, "--state", "expired", "--dry-run")
    assert (shown["expired"], [each["deliveries"] for each in shown["reasons"]]) == (3, [3])
    assert resent(world, "--state", "expired", "--org", str(other), "--since", "1h")["queued"] == 2
    world.deliver()
    assert world.states() == {"d1": "sent", "d2": "sent", "d3": "expired"}
    (row,) = world.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    assert row == {"sent_count": 2, "failed_count": 0, "status": "sent"}
    assert program(world, "deliveries", "resolve", world.key("d3"), "--resend").returncode == 0
    world.deliver()
    assert world.states()["d3"] == "sent"
    assert len(sink.messages()) == 3


def test_reasons_are_grouped_by_their_kind(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    campaign = world.campaign(40)
    world.add(*(world.message(f"d{n}", jobId=str(campaign), templateId=str(uuid4()), html=...) for n in range(40)))
    world.deliver()
    assert len({row["reason"] for row in world.ledger()}) == 40
    shown = resent(world, "--campaign", str(campaign), "--dry-run")
    assert shown["failed"] == 40
    (kind,) = shown["reasons"]
    assert (kind["deliveries"], kind["reason"].startswith("the organization has no template")) == (40, True)
    where = f"fingerprint={kind['fingerprint']}"
    letters = program(world, "dlq", "list", "--jobs", "--where", where, "--json")
    assert len(json.loads(letters.stdout)) == 20  # as many as are listed unless more are asked for


def resent(world: World, *options: str) -> dict[str, Any]:
    done = program(world, "deliveries", "resend", *options, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
