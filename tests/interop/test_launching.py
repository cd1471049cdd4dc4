"""BullMQ as the clock: schedulers and jobs pass between Node's BullMQ, current and 5.x, and ours, both ways."""

import json
import signal
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.cron import latest_slot, next_slot
from mauntic_jobs.timekeeping.window import Unit, Window
from tests.interop.node import node
from tests.support import run_program, start_program, wait_until

Speak = Callable[..., list[Any]]
_JOB = "aggregate-hourly"


@pytest.fixture
def here(direct_settings: Settings, servers: Servers) -> Settings:
    """Return the settings of a database and a queue prefix of this test's own."""
    own = {"redis_url": servers.redis_url, "queue_prefix": f"{{test-{uuid4().hex}}}"}
    return Settings(**{**direct_settings.model_dump(), **own})


@pytest.fixture
def speak(here: Settings, package: str) -> Speak:
    """Return a function that has Node do something with the queue of aggregate-hourly."""
    assert here.redis_url
    url = here.redis_url.get_secret_value()
    # Node refuses names with a colon; the same keys come of a prefix that ends where ours splits.
    return lambda *words: node("scheduler.mjs", package, f"{here.queue_prefix}:analytics", _JOB, url, *words)


def _variables(here: Settings, **more: str) -> dict[str, str]:
    assert here.redis_url
    return {"REDIS_URL": here.redis_url.get_secret_value(), "MAUNTIC_QUEUE_PREFIX": here.queue_prefix, **more}


def _work(here: Settings, **more: str) -> Any:
    return run_program("work", f"analytics:{_JOB}", "--drain", settings=here, **_variables(here, **more))


def _assert_iterations(here: Settings, speak: Speak) -> None:
    """Let the time of two jobs of a scheduler come, one made by Node and one by us; both name an hour long begun."""
    cron = f"{(clock.now().minute + 30) % 60} * * * *"
    instants = []
    for _ in range(2):
        ((scheduled,),) = speak("jobs", "delayed")
        instants.append(scheduled["opts"]["prevMillis"])
        with closing(open_redis(here)) as redis:
            redis.command("ZADD", f"{here.queue_prefix}:analytics:{_JOB}:delayed", 0, scheduled["id"])
        done = _work(here, MAUNTIC_JOBS=json.dumps({_JOB: {"cron": cron}}))
        assert done.returncode == ExitCode.DONE, done.stderr
    (completed,) = speak("jobs", "completed")
    ((following,),) = speak("jobs", "delayed")
    first, second, third = *instants, following["opts"]["prevMillis"]
    assert (second - first, third - second) == (60_000, 60_000)
    assert len(completed) == 2
    assert (following["name"], following["opts"]["repeat"]["pattern"]) == (_JOB, "* * * * *")
    (run,) = _runs(here)  # both instants belong to the same slot of the job's own line
    assert (run["status"], run["launcher"]) == ("succeeded", "bullmq")


def _runs(here: Settings) -> list[dict[str, Any]]:
    with connect(here) as session:
        return list_runs(session)


def test_a_scheduler_of_ours_is_one_of_nodes(here: Settings, speak: Speak) -> None:
    for outcome in ("added", "unchanged"):
        done = run_program("schedule", "register", "--json", settings=here, **_variables(here))
        assert {row["scheduler"] for row in json.loads(done.stdout)} == {outcome}
    ((scheduler,),) = speak("list")
    assert (scheduler["key"], scheduler["name"], scheduler["pattern"], scheduler["tz"]) == (
        _JOB,
        _JOB,
        "0 * * * *",
        "UTC",
    )
    following = next_slot("0 * * * *", clock.now())
    assert abs(scheduler["next"] / 1000 - following.timestamp()) in (0, 3600)  # the hour may have turned
    ((job,),) = speak("jobs", "delayed")
    assert (job["name"], job["opts"]["attempts"]) == (_JOB, 4)
    run_program("schedule", "unregister", settings=here, **_variables(here))
    assert speak("list") == [[]]
    assert speak("jobs", "delayed") == [[]]


_NAMES = ["aggregate-hourly", "hourly-event-aggregation"]


@pytest.mark.parametrize("name", _NAMES)
def test_a_scheduler_of_nodes_is_left_alone_whatever_it_is_called(here: Settings, speak: Speak, name: str) -> None:
    speak("upsert", "30 * * * *", name)
    before = speak("list")
    done = run_program("schedule", "register", settings=here, **_variables(here))
    assert (done.returncode, "another program registered it" in done.stdout) == (ExitCode.PARTIAL, True)
    assert "schedule register --adopt" in done.stderr
    run_program("schedule", "unregister", settings=here, **_variables(here))
    assert speak("list") == before


@pytest.mark.parametrize("name", _NAMES)
def test_a_scheduler_of_nodes_is_taken_over_where_told(here: Settings, speak: Speak, name: str) -> None:
    speak("upsert", "30 * * * *", name)
    _assert_taken_over(here, speak)


def test_what_node_5_repeats_without_a_scheduler_is_taken_over_where_told(here: Settings) -> None:
    assert here.redis_url
    address = ("bullmq-5", f"{here.queue_prefix}:analytics", _JOB, here.redis_url.get_secret_value())
    job = {"name": "hourly-event-aggregation", "data": {}, "opts": {"repeat": {"pattern": "30 * * * *"}}}
    node("scheduler.mjs", *address, "add", json.dumps(job))
    _assert_taken_over(here, lambda *words: node("scheduler.mjs", *address, *words))


def _assert_taken_over(here: Settings, speak: Speak) -> None:
    for outcomes in ({"added", "taken over from another program"}, {"unchanged"}):
        done = run_program("schedule", "register", "--adopt", "--json", settings=here, **_variables(here))
        assert (done.returncode, {row["scheduler"] for row in json.loads(done.stdout)}) == (ExitCode.DONE, outcomes)
    ((scheduler,),) = speak("list")
    assert (scheduler["key"], scheduler["name"], scheduler["pattern"]) == (_JOB, _JOB, "0 * * * *")
    ((job,),) = speak("jobs", "delayed")
    assert job["data"] == {"registeredBy": "mauntic-jobs"}


def test_a_job_of_any_name_is_the_job_of_its_queue(here: Settings, speak: Speak) -> None:
    speak("add", json.dumps({"name": "hourly-event-aggregation", "data": {"hour": 3}, "opts": {}}))
    assert _work(here).returncode == ExitCode.DONE
    ((completed,),) = speak("jobs", "completed")
    assert completed["returnvalue"]["run_id"] == _runs(here)[0]["id"]


def test_a_worker_of_nodes_runs_the_jobs_of_our_scheduler(here: Settings, package: str, speak: Speak) -> None:
    run_program("schedule", "register", settings=here, **_variables(here))
    assert here.redis_url
    ((scheduled,),) = speak("jobs", "delayed")
    with closing(open_redis(here)) as redis:
        # Let its time come.
        redis.command("ZADD", f"{here.queue_prefix}:analytics:{_JOB}:delayed", 0, scheduled["id"])
    (job,) = node("worker.mjs", package, f"{here.queue_prefix}:analytics", _JOB, here.redis_url.get_secret_value(), "1")
    assert (job["name"], job["data"]) == (_JOB, {"registeredBy": "mauntic-jobs"})
    assert job["id"] == scheduled["id"] == f"repeat:{_JOB}:{scheduled['opts']['prevMillis']}"
    ((following,),) = speak("jobs", "delayed")
    assert following["opts"]["prevMillis"] == scheduled["opts"]["prevMillis"] + 3_600_000


@pytest.mark.waits
def test_our_worker_runs_the_jobs_of_nodes_scheduler(here: Settings, speak: Speak) -> None:
    speak("upsert", "* * * * *")
    worker = start_program(
        "work",
        f"analytics:{_JOB}",
        settings=here,
        **_variables(here, MAUNTIC_JOBS='{"aggregate-hourly": {"cron": "* * * * *"}}'),
    )
    wait_until(lambda: len(_runs(here)) >= 1, "a run", seconds=90)
    ((following,),) = speak("jobs", "delayed")
    worker.send_signal(signal.SIGTERM)
    _, errors = worker.communicate()
    assert worker.returncode == ExitCode.DONE, errors
    (run,) = _runs(here)
    assert (run["status"], run["launcher"], run["claims_slot"]) == ("succeeded", "bullmq", True)
    assert following["opts"]["prevMillis"] == round((run["slot"] + timedelta(minutes=1)).timestamp() * 1000)
    assert (following["data"], following["opts"]["repeat"]["pattern"]) == ({"from": "node"}, "* * * * *")


def test_our_worker_runs_one_iteration_of_nodes_scheduler_after_another(here: Settings, speak: Speak) -> None:
    speak("upsert", "* * * * *")
    _assert_iterations(here, speak)


def test_our_worker_goes_on_with_what_node_5_repeats_without_a_scheduler(here: Settings) -> None:
    assert here.redis_url
    address = ("bullmq-5", f"{here.queue_prefix}:analytics", _JOB, here.redis_url.get_secret_value())
    job = {"name": _JOB, "data": {"from": "node"}, "opts": {"repeat": {"pattern": "* * * * *"}}}
    node("scheduler.mjs", *address, "add", json.dumps(job))
    _assert_iterations(here, lambda *words: node("scheduler.mjs", *address, *words))


def test_a_job_that_waited_two_hours_covers_its_own_hour(here: Settings, speak: Speak) -> None:
    added = clock.now() - timedelta(hours=2)
    job = {"name": _JOB, "data": {}, "opts": {"timestamp": round(added.timestamp() * 1000)}}
    speak("add", json.dumps(job))
    done = _work(here)
    assert done.returncode == ExitCode.DONE, done.stderr
    (run,) = _runs(here)
    slot = latest_slot("0 * * * *", added)
    assert (run["slot"], run["window_start"], run["window_end"]) == (slot, slot - timedelta(hours=1), slot)
    ((completed,),) = speak("jobs", "completed")
    assert completed["returnvalue"]["run_id"] == run["id"]
    ((event,)) = speak("events", "1")
    assert event["event"] == "completed"


@pytest.mark.usefixtures("same_hour")
def test_a_slot_that_is_answered_completes_its_job_with_a_note(here: Settings, speak: Speak) -> None:
    run_program(_JOB, "--slot", "latest", settings=here)
    speak("add", json.dumps({"name": _JOB, "data": {}, "opts": {}}))
    assert _work(here).returncode == ExitCode.DONE
    ((completed,),) = speak("jobs", "completed")
    assert "is answered by run 1" in completed["returnvalue"]["note"]
    assert len(_runs(here)) == 1


def test_jobs_get_the_platforms_policy_where_their_producer_set_none(here: Settings, speak: Speak) -> None:
    job = JOBS[_JOB]
    window = Window.before(latest_slot(job.cron, clock.now()), Unit.HOUR)
    speak("add", json.dumps({"name": _JOB, "data": {}, "opts": {}}))
    away = "postgresql://nobody@127.0.0.1:1/none"
    done = _work(here, DATABASE_URL=away, MAUNTIC_MAX_ATTEMPTS="1")
    assert done.returncode == ExitCode.DONE, done.stderr
    ((waiting,),) = speak("jobs", "delayed")
    assert (waiting["attemptsMade"], "Cannot reach Postgres" in waiting["failedReason"]) == (1, True)
    wait_until(lambda: _work(here).returncode == ExitCode.DONE and _runs(here), "the second attempt")
    assert _runs(here)[0]["window_start"] == window.start
    assert speak("jobs", "failed") == [[]]


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ({"name": _JOB, "data": ["no", "object"]}, "must be JSON objects"),
        ({"name": _JOB, "data": {"options": {"nonsense": 1}}}, "its options cannot be used"),
    ],
)
def test_a_job_that_cannot_be_meant_fails_at_once(
    here: Settings, speak: Speak, job: dict[str, Any], reason: str
) -> None:
    speak("add", json.dumps({**job, "opts": {}}))
    assert _work(here).returncode == ExitCode.DONE
    ((failed,),) = speak("jobs", "failed")
    assert reason in failed["failedReason"]
    assert (speak("jobs", "wait"), speak("jobs", "delayed"), _runs(here)) == ([[]], [[]], [])


def test_options_of_the_job_reach_the_run(here: Settings, speak: Speak) -> None:
    speak("add", json.dumps({"name": _JOB, "data": {"options": {"grace": "0s", "allow_shrink": True}}, "opts": {}}))
    assert _work(here).returncode == ExitCode.DONE
    assert _runs(here)[0]["options"] == {"allow_shrink": True, "grace": "PT0S"}
