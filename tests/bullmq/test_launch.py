"""The job of a package that a job of a BullMQ queue stands for."""

from contextlib import closing
from datetime import timedelta
from threading import Thread

import pytest

from mauntic_jobs.bullmq import GiveBackError, Queue, ReceivedJob, UnrecoverableError, create_worker
from mauntic_jobs.bullmq.launch import SlotLauncher
from mauntic_jobs.errors import ClockSkewError, ConfigurationError
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.schedule_settings import store
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.cron import latest_slot
from tests.bullmq.queues import ids_in, now_ms
from tests.support import wait_until
from tests.wire_counter import counted


def test_where_several_jobs_share_a_queue_the_name_decides() -> None:
    first, second = list(JOBS.values())[:2]
    received = ReceivedJob("1", "something-else", {}, clock.now(), 0, 4, {})
    with pytest.raises(UnrecoverableError, match=f"this queue is for {first.name}, {second.name}"):
        SlotLauncher([first, second], Settings())(received)


def test_a_worker_whose_clock_is_off_gives_jobs_back_and_takes_none(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = SlotLauncher([JOBS["aggregate-hourly"]], direct_settings)
    launcher.check_clock()
    right = clock.now
    monkeypatch.setattr(clock, "now", lambda: right() + timedelta(hours=26))
    with pytest.raises(GiveBackError):
        launcher(ReceivedJob("1", "aggregate-hourly", {}, clock.now(), 0, 4, {}))
    with pytest.raises(ClockSkewError, match="1d2h ahead of the database's"):
        launcher.check_clock()
    with connect(direct_settings) as session:
        assert list_runs(session) == []


def test_the_slot_is_of_the_line_that_the_database_sets(direct_settings: Settings) -> None:
    job = JOBS["stale-execution-cleanup"]
    line = f"{(clock.now() - timedelta(minutes=7)).minute} * * * *"
    received = ReceivedJob("1", job.name, {}, clock.now(), 0, 4, {})
    with connect(direct_settings) as session:
        store(session, job.name, line, None, direct_settings)
        SlotLauncher([job], direct_settings)(received)
        assert [run["slot"] for run in list_runs(session)] == [latest_slot(line, received.due)]


def test_a_worker_that_has_not_read_the_lines_of_the_database_runs_no_slot() -> None:
    away = Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    launcher = SlotLauncher([JOBS["aggregate-hourly"]], away)
    launcher.check_clock()
    with pytest.raises(RuntimeError, match="Cannot reach Postgres"):
        launcher(ReceivedJob("1", "aggregate-hourly", {}, clock.now(), 0, 4, {}))


def test_while_jobs_may_not_be_taken_none_is(queue: Queue) -> None:
    with closing(queue.connect()) as redis:
        add_jobs(redis, queue.prefix, [QueueJob(queue.name, "one", "any", {})], now_ms())
    refusal = ConfigurationError("the clock is wrong")

    def refuse() -> None:
        raise refusal

    said: list[str] = []
    worker = create_worker(queue, lambda _: None, tell=said.append, check=refuse)
    thread = Thread(target=worker.run)
    thread.start()
    wait_until(lambda: worker.trouble, "the refusal")
    worker.stop()
    thread.join()
    assert (ids_in(queue, "wait"), said) == (["one"], [f"{queue.name}: goes on trying: the clock is wrong"])
    with pytest.raises(ConfigurationError):
        create_worker(queue, lambda _: None, check=refuse).run(until_empty=True)


def test_a_worker_without_jobs_leaves_postgres_alone(
    direct_settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.bullmq.worker._WAIT_SECONDS", 0.05)
    assert direct_settings.database_url
    with counted(direct_settings.database_url.get_secret_value()) as asked:
        own = Settings(**{**direct_settings.model_dump(), "database_url": asked.url})
        launcher = SlotLauncher([JOBS["aggregate-hourly"]], own)
        looks: list[int] = []

        def check() -> None:
            launcher.check_clock()
            looks.append(asked.statements)

        worker = create_worker(queue, launcher, check=check)
        thread = Thread(target=worker.run)
        thread.start()
        wait_until(lambda: len(looks) >= 20, "the worker to look for jobs")
        worker.stop()
        thread.join()
    # Once at the start: a host whose clock is wrong takes nothing.
    assert (asked.connections, {*looks}) == (1, {looks[0]})
