"""Jobs that nobody should have written: each ends after few attempts, and none holds up the others."""

import json
import signal
import time

import pytest

from mauntic_jobs.delivery.sending.providers.smtp import SmtpProvider
from tests.delivery.crash import ended, start
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import wait_until

HUGE = "9" * 30
OPTIONS = [
    *(f'{{"attempts": {value}}}' for value in ("null", "true", '"3"', "3.5", "1e400", "0", "-1", HUGE)),
    *(
        f'{{"removeOnComplete": {value}, "removeOnFail": {value}}}'
        for value in (
            *("null", "-5", "1.5", '"yes"', "[]", "1e400", "NaN", '{"count": 1.5}', '{"count": "7"}'),
            *('{"age": true}', '{"age": 1e308}', '{"age": NaN}', '{"age": 3600, "limit": 0.5}'),
            *(f'{{"count": {HUGE}, "age": {HUGE}, "limit": {HUGE}}}', '{"count": 1e400, "age": 1e400}'),
        )
    ),
    *(
        f'{{"backoff": {value}}}'
        for value in (
            *('"x"', "true", "-5", "1e999", HUGE, "[]", '{"type": "weird"}', '{"type": [], "delay": 5}'),
            *('{"type": "exponential", "delay": "a"}', '{"type": "fixed", "delay": 1e999}'),
        )
    ),
    *(
        '{"delay": 1e30}',
        f'{{"delay": {HUGE}}}',
        '{"delay": true}',
        '{"priority": -1, "lifo": 7, "parent": {}, "repeat": 3}',
    ),
]
UNREADABLE_OPTIONS = ["{", "null", "[]", '"x"', "NaN", "9" * 5000]
DATA = [
    *(
        '"templateData": {"a": NaN}',
        '"x": Infinity',
        '"x": -Infinity',
        '"headers": {"X-A": NaN}',
    ),
    *('"templateData": {"a": ' + "9" * 5000 + "}", '"badge": 1e400', '"x": 01', '"x": ' + "[" * 100_000),
    *('"x": "\\ud800"', '"x": "\\u0000"', '"jobId": "x"', '"contactId": 5', '"headers": []', '"subject": {}'),
    *('"deliveryId": {}', '"deliveryId": ""', f'"deliveryId": "{"x" * 256}"', '"organizationId": 7', '"channel": 5'),
    *('"channel": "EMAIL"', '"emailAddress": ["a@b.example"]', '"html": "' + "{{#if a}}" * 30 + '"'),
    *('"unsubscribeUrl": "http://["', '"unsubscribeUrl": "javascript:x"', '"from": "nobody"', '"replyTo": "x"'),
    *('"emailAddress": "a@[127.0.0.1]"', '"emailAddress": "a\\u2028b@b.example"', '"html": "' + "x" * 1_048_576 + '"'),
]
FINE = [
    *(
        '"templateData": {"a": 1e400}',
        f'"x": {HUGE}',
        '"x": "\\\\u0000"',
        '"x": "NaN"',
        '"subject": 5',
        '"x": 1e200000',
    ),
    *('"x": "\\ud83d\\ude00"', '"deliveryId": "a\\n\\u001b[31m"', '"templateData": {"a": ' + "[" * 90 + "]" * 90 + "}"),
]
FIELDS = [("timestamp", "abc"), ("timestamp", HUGE), ("timestamp", None), ("name", None), ("data", None), ("data", "")]


def put(world: World, field: str, values: list[str]) -> list[str]:
    """Put one job for each value of a field on the queue, and return their ids."""
    names = [f"{field}{n}" for n in range(len(values))]
    world.add(*(world.message(name) for name in names), ids=names)
    for name, value in zip(names, values, strict=True):
        world.ask("HSET", f"{world.base}:{name}", field, value)
    return names


def with_data(world: World, pieces: list[str]) -> list[str]:
    return [f"{json.dumps(world.message(f'm{n}'))[:-1]}, {piece}}}" for n, piece in enumerate(pieces)]


def settled(world: World) -> dict[str, list[str]]:
    """Return the jobs by where they are, after checking that none is still to be done or was tried too often."""
    assert all(world.jobs_in(name) == [] for name in ("wait", "active", "delayed", "prioritized"))
    by_list = {name: world.jobs_in(name) for name in ("completed", "failed")}
    for name in by_list["failed"]:
        assert int(world.job(name)["atm"]) <= 3, world.job(name)
        assert world.job(name)["failedReason"]
    return by_list


@pytest.mark.parametrize("recipient", ["ann@example.com", "policy-550@example.com"])
def test_no_options_keep_a_job_from_its_end(world: World, sink: Sink, recipient: str) -> None:
    world.provider(sink.host, sink.port)
    unreadable = put(world, "opts", [*OPTIONS, *UNREADABLE_OPTIONS])[len(OPTIONS) :]
    for job in world.jobs_in("wait"):
        world.ask("HSET", f"{world.base}:{job}", "data", json.dumps(world.message(job, emailAddress=recipient)))
    world.deliver(concurrency={"email": 20})
    jobs = settled(world)
    if recipient.startswith("ann"):
        assert sorted(jobs["failed"]) == sorted(unreadable)
        assert len(sink.messages()) == len(OPTIONS)
    else:
        # One is to be kept by no more than so and so many, and some are not to be kept at all.
        assert set(unreadable) <= set(jobs["failed"])
        assert set(world.states().values()) == {"failed"}
    assert world.said == []


def test_data_that_cannot_be_delivered_is_failed_and_what_is_only_odd_is_sent(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    names = put(world, "data", with_data(world, [*DATA, *FINE]))
    for name, raw in {"binary": b"\xff\xfe", "empty": b"", "list": b"[]", "half": b'{"a'}.items():
        world.add({}, ids=[name])
        world.ask("HSET", f"{world.base}:{name}", "data", raw)
    world.deliver(concurrency={"email": 20})
    jobs = settled(world)
    assert sorted(jobs["failed"]) == sorted([*names[: len(DATA)], "binary", "empty", "list", "half"])
    assert sorted(jobs["completed"]) == sorted(names[len(DATA) :])
    assert len(sink.messages()) == len(FINE)
    assert set(world.states().values()) <= {"sent", "failed"}
    assert world.said == []


def test_data_that_postgres_cannot_hold_leaves_the_result_in_the_ledger(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    (name,) = put(
        world, "data", [f'{json.dumps(world.message(emailAddress="policy-550@example.com"))[:-1]}, "x": 1e200000}}']
    )
    world.deliver()
    assert settled(world)["failed"] == [name]
    (row,) = world.ledger()
    assert (row["state"], row["payload"]) == ("failed", None)
    assert json.loads(program(world, "deliveries", "reconcile", "--json").stdout)["recorded"] == 1


def test_a_job_of_which_parts_are_missing_is_failed(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(*(world.message(f"d{n}") for n in range(len(FIELDS) + 1)), ids=[f"j{n}" for n in range(len(FIELDS) + 1)])
    for n, (field, value) in enumerate(FIELDS):
        key = f"{world.base}:j{n}"
        world.ask("HDEL", key, field) if value is None else world.ask("HSET", key, field, value)
    world.deliver()
    jobs = settled(world)
    assert (sorted(jobs["failed"]), jobs["completed"]) == ([f"j{n}" for n in range(len(FIELDS))], [f"j{len(FIELDS)}"])


def test_a_job_that_is_removed_while_it_is_sent_leaves_nothing_behind(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message(emailAddress="slow@example.com"), ids=["j1"])
    process = start(world, "--drain")
    wait_until(sink.messages, "the message")
    assert world.ask("DEL", f"{world.base}:j1") == 1
    status, errors = ended(process)
    assert status == 0, errors
    assert world.states() == {"d1": "sent"}
    assert world.ask("KEYS", f"{world.base}:j1*") == []
    assert settled(world) == {"completed": [], "failed": []}


def test_what_is_wrong_with_the_installation_is_not_the_fault_of_a_message(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("d0"), ids=["j0"])
    process = start(world)
    wait_until(lambda: world.jobs_in("completed") == ["j0"], "the first message")
    world.session.execute(b"ALTER TABLE delivery.suppressions RENAME TO elsewhere")
    world.add(*(world.message(f"d{n}") for n in range(1, 51)), ids=[f"j{n}" for n in range(1, 51)])
    time.sleep(2)
    # The queue is left alone, but for what can be in hand.
    assert world.jobs_in("delayed") == []
    assert len(world.jobs_in("wait")) > 30
    world.session.execute(b"ALTER TABLE delivery.elsewhere RENAME TO suppressions")
    wait_until(lambda: len(world.jobs_in("completed")) == 51, "all messages", seconds=10)
    process.send_signal(signal.SIGTERM)
    status, errors = ended(process)
    assert status == 0, errors
    assert "check that DATABASE_URL names the platform's database" in errors
    assert len(errors.splitlines()) < 5
    assert {world.job(f"j{n}")["atm"] for n in range(51)} == {"1"}
    assert len(sink.messages()) == 51


def test_a_fault_while_a_message_is_sent_is_named_and_not_repeated(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError("what nobody has thought of")

    world.provider(sink.host, sink.port)
    world.add(world.message(), ids=["j1"])
    monkeypatch.setattr(SmtpProvider, "send", fail)
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["reason"]) == ("ambiguous", "ZeroDivisionError: what nobody has thought of")
    assert world.jobs_in("delayed") == ["j1"]


def test_a_job_whose_hash_was_deleted_says_so(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("d1"), world.message("d2"), ids=["j1", "j2"])
    world.ask("DEL", f"{world.base}:j1")
    world.deliver()
    assert (world.jobs_in("failed"), world.jobs_in("completed")) == (["j1"], ["j2"])
    assert "its hash was deleted from Redis" in world.job("j1")["failedReason"]
