"""The other jobs as real processes: killed in mid-write, eight at once, and again: nothing lost, halved or doubled."""

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from threading import Event as Flag, Thread
from typing import Any
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.lua import script
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Unit, naive
from mauntic_jobs.warmup.keys import dates, keys
from tests.gate import Gate
from tests.jobs.executions import Execution, store
from tests.support import Event, add_events, contact, organization, start_program, utc, wait_until

_KILLS = 25  # directly, and 25 more through the pooler
_TAKEOVER = {"MAUNTIC_TAKEOVER_AFTER": "0.5s"}
_CAMPAIGNS = [UUID(int=(0xA << 124) + number) for number in range(12)]
_TYPES = [f"type_{number}" for number in range(12)]
_MEMBERS = 30
_STALE = range(1, 41)


@dataclass(frozen=True)
class Case:
    """A job: how it is called, which rows it writes where, and what these are before and after a whole run."""

    arguments: tuple[str, ...]
    table: str
    rows: int
    prepare: Callable[[Session], None]
    state: Callable[[Session], Any]
    before: Any
    after: Any


_MESSAGE = b"""
INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)
VALUES (%(org)s, %(contact)s, 'email_opened', %(source)s, '2026-10-05 10:00')
"""


def _add_messages(session: Session) -> None:
    for campaign in _CAMPAIGNS:
        for person in (1, 1, 2):
            opened = {"org": organization(1), "contact": contact(person), "source": str(campaign)}
            session.execute(_MESSAGE, opened)


def _reports(session: Session) -> dict[UUID, tuple[int, int]]:
    rows = session.rows(b"SELECT campaign_id, opened, unique_opened FROM analytics.campaign_daily_stats")
    assert len({row["campaign_id"] for row in rows}) == len(rows)
    return {row["campaign_id"]: (row["opened"], row["unique_opened"]) for row in rows}


def _add_usage(session: Session) -> None:
    add_events(
        session,
        [
            Event(organization(1), contact(person), kind, utc(f"2026-10-{day}T10:00"))
            for kind in _TYPES
            for person, day in ((1, "01"), (1, "31"), (2, "15"))
        ],
    )


def _usage(session: Session) -> dict[str, tuple[int, int]]:
    rows = session.rows(b"SELECT event_type, count, unique_count FROM analytics.event_aggregates")
    assert len({row["event_type"] for row in rows}) == len(rows)
    return {row["event_type"]: (row["count"], row["unique_count"]) for row in rows}


def _add_executions(session: Session) -> None:
    now = clock.now()
    old = [Execution(number, now - timedelta(days=30)) for number in _STALE]
    store(session, [*old, Execution(99, now - timedelta(days=1))])


def _cleaned(session: Session) -> tuple[int, ...]:
    """Return how many executions are canceled, how many of those are logged, and how many rows the log has."""
    counted = session.row(
        b"SELECT count(DISTINCT id)::int AS canceled, (SELECT count(*)::int FROM journey.execution_logs) AS logs,"
        b" (SELECT count(*)::int FROM journey.execution_logs AS log"
        b"  JOIN journey.journey_executions AS own ON own.id = log.execution_id AND own.status = 'canceled') AS pairs"
        b" FROM journey.journey_executions WHERE status = 'canceled'"
    )
    return tuple(counted.values())


_JOURNEY = b"""
INSERT INTO crm.contacts (id, organization_id, status)
SELECT md5('contact' || number)::uuid, %(org)s, 'active' FROM generate_series(1, %(members)s) AS number;
WITH journey AS (
    INSERT INTO journey.journeys (organization_id, name, status) VALUES (%(org)s, 'j', 'active') RETURNING id
), version AS (
    INSERT INTO journey.journey_versions (journey_id, organization_id, version_number, definition, published_at)
    SELECT id, %(org)s, 1, '{}', '2026-01-01' FROM journey RETURNING id
), step AS (
    INSERT INTO journey.journey_steps (journey_version_id, organization_id, type, config)
    SELECT id, %(org)s, 'action', '{}' FROM version
), segment AS (
    INSERT INTO crm.segments (organization_id, name, type) VALUES (%(org)s, 's', 'dynamic') RETURNING id
)
INSERT INTO journey.journey_triggers (journey_id, organization_id, type, config)
SELECT journey.id, %(org)s, 'segment', jsonb_build_object('segmentId', segment.id) FROM journey, segment
"""


def _add_journey(session: Session) -> None:
    session.execute(_JOURNEY, {"org": organization(1), "members": _MEMBERS})


def _entered(session: Session) -> tuple[int, ...]:
    """Return how many executions there are, of how many contacts, and how many rows of the outbox."""
    counted = session.row(
        b"SELECT count(*)::int AS executions, count(DISTINCT contact_id)::int AS contacts,"
        b" (SELECT count(*)::int FROM mauntic_jobs.outbox) AS outbox FROM journey.journey_executions"
    )
    return tuple(counted.values())


CASES = [
    Case(
        ("generate-daily-reports", "--date", "2026-10-05"),
        "analytics.campaign_daily_stats",
        len(_CAMPAIGNS),
        _add_messages,
        _reports,
        {},
        dict.fromkeys(_CAMPAIGNS, (3, 2)),
    ),
    Case(
        ("monthly-usage-summary", "--month", "2026-10"),
        "analytics.event_aggregates",
        len(_TYPES),
        _add_usage,
        _usage,
        {},
        {f"monthly:{kind}": (3, 2) for kind in _TYPES},
    ),
    Case(
        ("stale-execution-cleanup",),
        "journey.execution_logs",
        len(_STALE),
        _add_executions,
        _cleaned,
        (0, 0, 0),
        (len(_STALE), len(_STALE), len(_STALE)),
    ),
    Case(
        ("segment-trigger-eval",),
        "journey.journey_executions",
        _MEMBERS,
        _add_journey,
        _entered,
        (0, 0, 0),
        (_MEMBERS, _MEMBERS, _MEMBERS),
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: case.arguments[0])
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


@pytest.fixture
def variables(servers: Servers) -> dict[str, str]:
    return {"REDIS_URL": servers.redis_url, "MAUNTIC_QUEUE_PREFIX": f"{{test-{uuid4().hex}}}"}


@pytest.fixture
def gate(direct_settings: Settings, case: Case) -> Iterator[Gate]:
    with connect(direct_settings) as keeper:
        case.prepare(keeper)
        yield Gate(keeper, case.table)


def _kill(process: subprocess.Popen[str], session: Session) -> None:
    """Kill a process, and let its run have been silent for an hour: the next one need not wait for that.

    `tests/runner/test_processes.py` waits.
    """
    process.kill()
    process.communicate()
    session.execute(
        b"UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE status = 'running'"
    )


def _end(process: subprocess.Popen[str]) -> int:
    _, errors = process.communicate()
    assert process.returncode == ExitCode.DONE, errors
    return process.returncode


def test_kills_in_mid_write_leave_nothing_half_written(
    settings: Settings, session: Session, case: Case, gate: Gate, variables: dict[str, str]
) -> None:
    def start() -> subprocess.Popen[str]:
        return start_program(*case.arguments, "--overlap", "wait", settings=settings, **variables, **_TAKEOVER)

    for kill in range(_KILLS):
        gate.close_at(1 + kill % case.rows)
        process = start()
        gate.wait_for_writer(process)
        _kill(process, session)
        assert case.state(session) == case.before
    gate.open()
    _end(start())
    assert case.state(session) == case.after
    assert [row["status"] for row in list_runs(session, limit=100)] == ["succeeded", *["lost"] * _KILLS]
    _end(start())
    assert case.state(session) == case.after


def test_of_eight_at_once_one_works_and_seven_try_later(
    settings: Settings, session: Session, case: Case, gate: Gate, variables: dict[str, str]
) -> None:
    gate.close_at(case.rows // 2)
    processes = [start_program(*case.arguments, settings=settings, **variables) for _ in range(8)]
    wait_until(lambda: sum(process.poll() is not None for process in processes) == 7, "the end of seven")
    gate.open()
    for process in processes:
        process.communicate()
    assert sorted(process.returncode for process in processes) == [ExitCode.DONE, *[ExitCode.TRY_LATER] * 7]
    assert case.state(session) == case.after


def _has_runs(session: Session, number: int) -> bool:
    return len(list_runs(session, status=Status.SUCCEEDED, limit=100)) == number


@pytest.fixture
def redis(servers: Servers) -> Iterator[RedisScripts]:
    with closing(open_redis(Settings(redis_url=servers.redis_url))) as opened:
        yield opened


def test_kills_between_the_commit_and_the_queue_lose_and_double_no_job(
    settings: Settings, session: Session, redis: RedisScripts, variables: dict[str, str]
) -> None:
    _add_journey(session)
    for kill in range(1, _KILLS + 1):
        # Redis answers what is asked, but takes no job.
        redis.command("CLIENT", "PAUSE", 60_000, "WRITE")
        process = start_program("segment-trigger-eval", settings=settings, **variables)
        wait_until(partial(_has_runs, session, kill), "the commit")
        process.kill()
        process.communicate()
        redis.command("CLIENT", "UNPAUSE")
        assert _entered(session) == (_MEMBERS, _MEMBERS, _MEMBERS)
    for _ in range(2):
        _end(start_program("segment-trigger-eval", settings=settings, **variables))
        key = f"{variables['MAUNTIC_QUEUE_PREFIX']}:journey:execute-step:wait"
        waiting = {job.decode() for job in redis.command("LRANGE", key, 0, -1)}
        executions = session.rows(b"SELECT id::text AS id FROM journey.journey_executions")
        assert waiting == {row["id"] for row in executions}
        assert redis.command("LLEN", key) == _MEMBERS


_DOMAINS = 12_000
_ADD_DOMAINS = b"""
INSERT INTO delivery.sending_domains (organization_id, domain, created_at)
SELECT %(org)s, 'd' || number || '.test', %(at)s FROM generate_series(1, %(domains)s) AS number
"""


_KEEP = b"for _, key in ipairs(KEYS) do redis.call('COPY', key, key .. ':kept', 'REPLACE') end return 0"
# As so many commands it would take most of what the test takes.
_READ = b"local found = {} for _, key in ipairs(KEYS) do found[#found + 1] = redis.call('GET', key) end return found"
_RESTORE = b"for _, key in ipairs(KEYS) do redis.call('COPY', key .. ':kept', key, 'REPLACE') end return 0"


class Counters:
    """The counters of many domains: what they sent yesterday, and since midnight."""

    def __init__(self, redis: RedisScripts, owner: UUID, today: datetime) -> None:
        self._redis = redis
        self._keys = [keys(owner, f"d{number}.test") for number in range(1, _DOMAINS + 1)]
        self._today = today

    def start(self) -> None:
        """Let it be the moment after midnight, with 100 messages of yesterday and 7 of today."""
        for day, messages in ((self._today - timedelta(days=1), 100), (self._today, 7)):
            self._redis.run(script("warmup_count"), self._calls((*dates(day.date()), messages)))
        self._at_once(_KEEP)

    def start_over(self) -> None:
        """Let it be that moment again."""
        self._at_once(_RESTORE)

    def count_one(self, number: int) -> None:
        self._redis.run(script("warmup_count"), [(self._keys[number], (*dates(self._today.date()), 1))])

    def standing(self, step: int = 1) -> list[int]:
        """Return what the counters say, or each of so many."""
        (values,) = self._redis.run(_READ, [(tuple(counter for counter, _ in self._keys[::step]), ())])
        return [int(value) for value in values]

    def has_begun(self, reset: subprocess.Popen[str]) -> bool:
        return reset.poll() is not None or min(self.standing(100)) < 100

    def of_today(self) -> list[int]:
        """Return what was sent today, by the accounts."""
        read = b"return redis.call('HGET', KEYS[2], ARGV[1])"
        return [int(value) for value in self._redis.run(read, self._calls((dates(self._today.date())[0],)))]

    def _at_once(self, text: bytes) -> None:
        self._redis.run(text, [(tuple(chain.from_iterable(self._keys)), ())])

    def _calls(self, arguments: tuple[str | int, ...]) -> list[tuple[tuple[str, str], tuple[str | int, ...]]]:
        return [(each, arguments) for each in self._keys]


@pytest.fixture
def owner(session: Session) -> UUID:
    owner = uuid4()
    created = naive(clock.now() - timedelta(days=5))
    session.execute(_ADD_DOMAINS, {"org": owner, "at": created, "domains": _DOMAINS})
    return owner


@pytest.mark.usefixtures("same_day")
def test_kills_in_the_middle_of_a_reset_lose_and_forget_no_message(
    settings: Settings, session: Session, redis: RedisScripts, owner: UUID, variables: dict[str, str]
) -> None:
    counters = Counters(redis, owner, Unit.DAY.floor(clock.now()))
    counters.start()
    done = Flag()

    def send() -> None:
        with closing(open_redis(Settings(redis_url=variables["REDIS_URL"]))) as own:
            sender = Counters(own, owner, counters._today)
            while not done.is_set():
                sender.count_one(random.randrange(_DOMAINS))

    for _ in range(_KILLS):
        counters.start_over()
        process = start_program("warmup-daily-reset", "--overlap", "wait", settings=settings, **variables, **_TAKEOVER)
        wait_until(partial(counters.has_begun, process), "the first reset")
        _kill(process, session)
        # Each counter is reset or is not, and has lost nothing.
        assert set(counters.standing()) <= {107, 7}
    sending = Thread(target=send)
    sending.start()
    for _ in range(3):
        _end(start_program("warmup-daily-reset", "--overlap", "wait", settings=settings, **variables, **_TAKEOVER))
    done.set()
    sending.join()
    assert counters.standing() == counters.of_today()


@pytest.mark.usefixtures("same_day")
def test_of_eight_resets_at_once_one_works_and_seven_try_later(
    settings: Settings, direct_settings: Settings, redis: RedisScripts, owner: UUID, variables: dict[str, str]
) -> None:
    counters = Counters(redis, owner, Unit.DAY.floor(clock.now()))
    counters.start()
    with connect(direct_settings) as holder:
        holder.execute_alone(b"BEGIN; LOCK TABLE delivery.sending_domains IN ACCESS EXCLUSIVE MODE")
        processes = [start_program("warmup-daily-reset", settings=settings, **variables) for _ in range(8)]
        wait_until(lambda: sum(process.poll() is not None for process in processes) == 7, "the end of seven")
    for process in processes:
        process.communicate()
    assert sorted(process.returncode for process in processes) == [ExitCode.DONE, *[ExitCode.TRY_LATER] * 7]
    assert set(counters.standing()) == {7}
