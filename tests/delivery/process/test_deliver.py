"""The command `deliver` as a process: what it may do, what it says, and what it serves."""

import json
import os
import pty
import re
import signal
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from mauntic_jobs.errors import ExitCode
from tests.delivery.crash import ended, start
from tests.delivery.sink import Sink
from tests.delivery.web import free_port, get, is_ready
from tests.delivery.world import World
from tests.support import role, wait_until

_DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def ready(world: World, sink: Sink) -> World:
    world.provider(sink.host, sink.port)
    return world


def test_the_documented_permissions_are_enough_to_deliver(ready: World, sink: Sink) -> None:
    _, grants = re.findall(r"```sql\n(.+?)```", (_DOCS / "database.md").read_text(), re.DOTALL)
    job, contact = ready.campaign(2), ready.contact()
    own = {"jobId": str(job), "contactId": str(contact)}
    ready.add(ready.message("d1", **own), ready.message("d2", emailAddress="reject-550@example.com", **own))
    with role(ready.settings, grants.replace("TO jobs", "TO {role}")) as limited:
        ready.settings = limited.model_copy(update={"record_activity": True})
        ready.deliver()
        assert ready.states() == {"d1": "sent", "d2": "failed"}
    assert len(sink.messages()) == 1
    assert ready.said == []


def test_it_serves_its_health_and_its_numbers(ready: World) -> None:
    port = free_port()
    ready.add(ready.message("d1"), ready.message("d2", emailAddress="reject-550@example.com"))
    process = start(ready, PORT=str(port))
    try:
        wait_until(lambda: set(ready.states().values()) == {"sent", "failed"}, "both")
        assert get(port, "/ready") == (200, '{"ready": true}')
        status, text = get(port, "/health")
        assert (status, json.loads(text)["stuck"]) == (200, [])
        status, metrics = get(port, "/metrics")
        assert status == 200
        assert 'mauntic_delivery_jobs_total{channel="email",outcome="sent"} 1.0' in metrics
        assert 'mauntic_delivery_seconds_count{channel="email"} 2.0' in metrics
        provider = 'channel="email",outcome="accepted",provider="custom_smtp"'
        assert f"mauntic_provider_exchanges_total{{{provider}}} 1.0" in metrics
        assert 'mauntic_provider_seconds_count{channel="email",provider="custom_smtp"} 2.0' in metrics
        status, own = get(port, "/metrics/own")
        assert status == 200
        assert 'mauntic_delivery_jobs_total{channel="email",outcome="sent"} 1.0' in own
        # What only the stores know is not asked for.
        assert "mauntic_store_up" in metrics
        assert "mauntic_store_up" not in own
        assert get(port, "/other")[0] == 404
    finally:
        process.send_signal(signal.SIGTERM)
        status, errors = ended(process)
    assert status == 0
    (failure,) = [line for line in map(json.loads, errors.splitlines()) if line["event"] == "failed"]
    assert failure["level"] == "error"
    assert "550 5.1.1" in failure["reason"]


def test_several_processes_add_up(ready: World, sink: Sink) -> None:
    port = free_port()
    ready.add(*(ready.message(f"d{n}") for n in range(20)))
    process = start(ready, "--processes", "2", PORT=str(port))
    try:
        wait_until(lambda: len(sink.messages()) == 20, "the messages")
        wait_until(lambda: get(port, "/ready")[0] == 200, "both processes")
        line = 'mauntic_delivery_jobs_total{channel="email",outcome="sent"} 20.0'
        wait_until(lambda: line in get(port, "/metrics")[1], "the sum")
    finally:
        process.send_signal(signal.SIGINT)
        status, errors = ended(process)
    assert status == 0, errors


def test_a_process_of_several_that_dies_is_started_again(ready: World, sink: Sink) -> None:
    port = free_port()
    process = start(ready, "--processes", "2", PORT=str(port))
    try:
        wait_until(lambda: is_ready(port), "both processes")
        delivering = _children(process.pid)
        assert [_is_forked(each) for each in delivering] == [True, True]
        os.kill(delivering[0], signal.SIGKILL)
        wait_until(lambda: get(port, "/ready")[0] == 503, "its end")
        wait_until(lambda: get(port, "/ready")[0] == 200, "another")
        ready.add(ready.message())
        wait_until(sink.messages, "the message")
    finally:
        process.send_signal(signal.SIGTERM)
        status, errors = ended(process)
    assert status == 0, errors
    assert "is started again" in errors


def test_several_processes_end_when_the_one_that_looks_after_them_is_killed(ready: World) -> None:
    port = free_port()
    process = start(ready, "--processes", "2", PORT=str(port))
    wait_until(lambda: is_ready(port), "both processes")
    delivering = _children(process.pid)
    assert len(delivering) == 2
    process.kill()
    ended(process)
    wait_until(lambda: not any(_is_forked(each) for each in delivering), "their end")


def test_several_processes_end_with_one_that_cannot_listen(ready: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(ready, "--processes", "2", PORT=str(taken.getsockname()[1]))
        status, errors = ended(process)
    assert (status, "Cannot serve /health" in errors) == (78, True)


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_forked(pid: int) -> bool:
    """Return whether a process that runs shares with its parent what that has imported; a zombie has no memory."""
    try:
        shared = re.search(r"^Shared_Dirty: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return False
    return shared is not None and int(shared[1]) > 10_000


def test_what_cannot_be_reached_at_the_beginning_is_an_error(ready: World) -> None:
    process = start(ready, REDIS_URL="redis://127.0.0.1:1")
    status, errors = ended(process)
    assert status == 69
    assert errors.startswith("mauntic-jobs: Cannot reach Redis")
    status, errors = ended(start(ready, DATABASE_URL="postgresql://a@127.0.0.1:1/b"))
    assert status == 69
    status, errors = ended(start(ready, "--processes", "2", REDIS_URL="redis://127.0.0.1:1"))
    assert status == 69


def test_a_job_whose_lock_ran_out_meanwhile_is_acknowledged(ready: World, sink: Sink) -> None:
    ready.add(ready.message(emailAddress="slow@example.com"), ids=["j1"])
    process = start(ready, "--drain")
    wait_until(sink.messages, "the message")
    ready.ask("DEL", f"{ready.base}:j1:lock")
    status, errors = ended(process)
    assert status == 0, errors
    assert ready.jobs_in("completed") == ["j1"]
    assert len(sink.messages()) == 1


def test_two_stalls_do_not_kill_a_good_job(ready: World, sink: Sink) -> None:
    from tests.delivery.crash import age

    ready.add(ready.message(), ids=["j1"])
    for _ in range(3):
        ended(start(ready, FAILPOINT="taken:1"))
        age(ready)
        assert ready.jobs_in("active") == ["j1"]
    process = start(ready)
    wait_until(lambda: ready.jobs_in("completed") == ["j1"], "the job")
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
    assert len(sink.messages()) == 1


def test_encrypted_configurations_are_opened_and_a_wrong_key_is_one_error(world: World, sink: Sink) -> None:
    import base64

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from pydantic import SecretStr

    key, iv = bytes(range(32)), bytes(12)
    plain = {"host": sink.host, "port": sink.port, "from": "news@acme.test"}
    sealed = AESGCM(key).encrypt(iv, json.dumps(plain).encode(), None)
    stored = ":".join(base64.b64encode(each).decode() for each in (iv, sealed))
    provider = world.provider(sink.host, sink.port)
    world.write(
        "UPDATE delivery.provider_configs SET config = to_jsonb(%(stored)s::text) WHERE id = %(id)s",
        stored=stored,
        id=provider,
    )
    world.add(world.message("d1"), world.message("d2"))
    world.settings = world.settings.model_copy(update={"encryption_key": SecretStr("00" * 32)})
    world.deliver()
    wrong, left = world.said
    assert wrong == f"custom_smtp {provider}: its configuration does not open with ENCRYPTION_KEY"
    assert left.startswith("email: 2 left, waiting for their time")
    assert set(world.states().values()) == {"deferred"}
    world.settings = world.settings.model_copy(update={"encryption_key": SecretStr(key.hex())})
    world.hurry()
    world.deliver()
    assert set(world.states().values()) == {"sent"}


@pytest.mark.parametrize("processes", ["1", "2"])
def test_on_a_terminal_there_are_numbers_and_what_was_said_last(ready: World, processes: str) -> None:
    ready.add(*(ready.message(f"d{n}") for n in range(3)), ready.message("d3", emailAddress="policy-550@example.com"))
    terminal, end = pty.openpty()
    process = start(ready, "--processes", processes, output=end, COLUMNS="80", LINES="24", TERM="xterm")
    os.close(end)
    shown = ""
    while "was refused: 550" not in shown or not re.search(r"email +0 +0 +0 +3 +\d+ +1 ", shown):
        shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(terminal, 65_536).decode())
    process.send_signal(signal.SIGTERM)
    with suppress(OSError):  # it has ended
        while more := os.read(terminal, 65_536).decode():
            shown += more
    os.close(terminal)
    assert process.wait() == 0
    assert '"pid"' not in shown
    assert all(len(line) <= 80 for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines())


def test_the_limit_of_a_warm_up_is_exact_across_processes(ready: World, sink: Sink) -> None:
    ready.write(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
        " VALUES (%(organization)s, 'acme.test', clock_timestamp() AT TIME ZONE 'UTC')"
    )
    ready.add(*(ready.message(f"d{n}", emailAddress=f"policy-550+{n}@example.com") for n in range(10)))
    ready.add(*(ready.message(f"d{n}") for n in range(10, 90)))
    status, errors = ended(start(ready, "--drain", "--processes", "2", "--concurrency", "email=20"))
    assert status == ExitCode.TRY_LATER, errors
    states = Counter(ready.states().values())
    assert states["failed"] + states["sent"] + states["deferred"] == 90
    # Those that were refused may have held a place when another was put off, and gave it back.
    assert 40 <= len(sink.messages()) == states["sent"] <= 50
    ready.hurry()
    ready.deliver()
    assert len(sink.messages()) == 50


def test_a_stderr_that_nobody_reads_or_that_is_closed_ends_nothing(ready: World, sink: Sink) -> None:
    failing = [ready.message(f"d{n}", emailAddress=f"reject-550+{n}@example.com") for n in range(20)]
    ready.add(*failing)
    process = start(ready)
    assert process.stderr is not None
    process.stderr.close()
    try:
        wait_until(lambda: Counter(ready.states().values())["failed"] == 20, "the failures, which are reported")
        ready.add(ready.message("good"))
        wait_until(sink.messages, "the message")
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
    assert status == 0
