"""Admission in virtual time: the real scripts on a real server, with processes, providers and a clock of the test."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID, uuid4

import redis

from mauntic_jobs.delivery.admission.admission import LANE
from mauntic_jobs.delivery.admission.lanes import lane_names, scores_of
from mauntic_jobs.delivery.consumer.queue_calls import TAKING, consumer_script
from mauntic_jobs.lua import script
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.commands import ScriptCall, Taken
from tests.cluster import owner_url
from tests.server_mode import IN_CLUSTER

EPOCH_SECONDS = 1_790_000_000.0
LOOKAHEAD = 0.25
TOKEN = "0"  # noqa: S105 - of a lock


class VirtualAdmission:
    """One queue whose scripts read `now`, in seconds since the beginning, as their time."""

    def __init__(self, client: redis.Redis, base: str) -> None:
        self._ask: Callable[..., Any] = client.execute_command
        self._client = client
        self._scripts: dict[bytes, Any] = {}
        self.base = base
        self.now = 0.0
        self._count = 0

    def set_time(self, now: float) -> None:
        """Let it be so many seconds after the beginning."""
        self.now = now
        seconds, rest = divmod(round((EPOCH_SECONDS + now) * 1_000_000), 1_000_000)
        self._ask("SET", f"{self.base}:now", f"{seconds} {rest}")

    def add(self, organization: UUID, *, transactional: bool = False, age: float = 0.0) -> str:
        """Put a job on the queue as a producer does; return its id."""
        self._count += 1
        job = f"j{self._count:08d}"
        data = {"deliveryId": job, "organizationId": str(organization)}
        if transactional:
            data["transactional"] = True  # type: ignore[assignment]
        made = int((EPOCH_SECONDS + self.now - age) * 1000)
        words = ["name", "send-email", "data", json.dumps(data, separators=(",", ":")), "opts", "{}", "timestamp", made]
        self._ask("HSET", f"{self.base}:{job}", *words)
        self._ask("LPUSH", f"{self.base}:wait", job)
        return job

    def take(self, token: str = TOKEN) -> tuple[Taken | None, float]:
        """Take a job; return it, and the seconds after which there may be one, infinite for never."""
        answer = self._run(scripts.take(self.base, token, self._milliseconds()))
        taken = scripts.taken(answer)
        wait = int(float(answer[2])) / 1000 if taken is None else 0.0
        due = int(float(answer[3])) if taken is None else 0
        return taken, wait or (due / 1000 - EPOCH_SECONDS - self.now if due else math.inf)

    def finish(self, job: str, token: str = TOKEN, *, more: bool = False) -> Taken | None:
        """Complete a job, and take another if `more`."""
        call = scripts.finish(
            *(self.base, token, job, self._milliseconds()),
            failed=False,
            value="1",
            keep={"count": 0},
            attempts=3,
            fetch_next=more,
        )
        return scripts.taken(self._run(call))

    def give_back(self, job: str, token: str = TOKEN) -> None:
        """Put a job back."""
        self._run(scripts.give_back(self.base, token, job))

    def delay(self, job: str, seconds: float, token: str = TOKEN) -> None:
        """Let a job be tried again later."""
        milliseconds = int(seconds * 1000)
        self._run(
            scripts.delay(self.base, token, job, self._milliseconds(), milliseconds, "later", spend_attempt=False)
        )

    def die(self, job: str) -> None:
        """Let the process that has a job die, and the job be found by those that look for such jobs."""
        self._ask("DEL", f"{self.base}:{job}:lock")
        self._ask("LREM", f"{self.base}:active", 1, job)
        self._ask("RPUSH", f"{self.base}:wait", job)

    def delayed(self) -> list[str]:
        """Return the ids of the jobs that wait for their time."""
        return [job.decode() for job in self._ask("ZRANGE", f"{self.base}:delayed", 0, -1)]

    def configure(self, organization: UUID, limits: str) -> None:
        """Set what limits an organization."""
        self._own("configure", "adm:limits", [str(organization), limits])

    def report(self, provider: str, outcome: str, organization: UUID, limits: str, seconds: float = 0.0) -> int:
        """Report what became of a message; return how many connections a process may have."""
        arguments = [provider, outcome, int(seconds * 1_000_000), str(organization), limits]
        return self._own("report", f"adm:limit:{provider}", arguments)

    def note_account(self, provider: str, rate: float, daily: int, sent: int, organization: UUID, limits: str) -> int:
        """Note what the account of a provider may send, 0 and -1 for no limit; return how that stands."""
        interval = round(1_010_000 / rate) if rate else 0
        arguments = [provider, interval, daily, sent, str(organization), limits]
        return self._own("account", f"adm:limit:{provider}", arguments)

    def crowd(self, provider: str, opened: int, known: int, organization: UUID, limits: str) -> int:
        """Say that a process was refused one more connection, of which it has so many; return how many it may have."""
        return self._own("connections", f"adm:limit:{provider}", [opened, known, str(organization), limits])

    def leave_alone(self, provider: str, seconds: float, organization: UUID, limits: str, *, ago: float = 0.0) -> bool:
        """Say that a provider fails since so long ago; return whether it is left alone."""
        arguments = [provider, int(seconds * 1_000_000), int(ago * 1_000_000), str(organization), limits]
        return bool(self._own("provider", f"adm:limit:{provider}", arguments))

    def use_again(self, provider: str) -> None:
        """Say that a provider works."""
        self._own("provider", f"adm:limit:{provider}", [provider, 0, 0, "", ""])

    def hold(self, lane: str, seconds: float) -> None:
        """Let a lane wait for a place of its organization."""
        self._own("hold", "adm:lanes", [lane, int(seconds * 1_000_000)])

    def free(self, organization: UUID) -> None:
        """End the wait of an organization for a place."""
        self._own("hold", "adm:lanes", [lane_names(str(organization))[0], 0])

    def restrict(self, values: dict[str, tuple[float, float]]) -> None:
        """Say what is restricted, by name: until when, and the least seconds between two messages, 0 for a pause."""
        words = [
            word
            for name, (end, interval) in values.items()
            for word in (name, f"{round((EPOCH_SECONDS + end) * 1_000_000)} {round(interval * 1_000_000)}")
        ]
        text = script("admission") + script("admission_restrict")
        self._script(text)([f"{self.base}:adm:restrictions"], [f"{self.base}:", *words])

    def weigh(self, weights: dict[UUID, float]) -> None:
        """Say which organizations have another weight than 1."""
        words = [word for organization, weight in weights.items() for word in (str(organization), f"{weight:.17g}")]
        text = script("admission") + script("admission_weights")
        self._script(text)([f"{self.base}:adm:weights"], [f"{self.base}:", *words])

    def audit(self) -> None:
        """Look for what was lost, from one end to the other."""
        lane = 0
        while True:
            lane = self._own("audit", "prioritized", [lane, 50])
            if not lane:
                return

    def parked(self) -> set[str]:
        """Return the ids of the jobs that are parked."""
        return {job.decode() for job in self._ask("ZRANGE", f"{self.base}:prioritized", "-inf", "(0", "BYSCORE")}

    def wakes(self) -> int:
        """Return how many things lanes wait for, or have waited for."""
        count: int = self._ask("ZCARD", f"{self.base}:adm:wake")
        return count

    def waiting(self, organization: UUID) -> int:
        """Return how many jobs of an organization are parked."""
        lanes = self._ask("HMGET", f"{self.base}:adm:lanes", *lane_names(str(organization)))
        counts = [self._ask("ZCOUNT", f"{self.base}:prioritized", *scores_of(int(lane))) for lane in lanes if lane]
        return sum(counts)

    def places(self) -> list[str]:
        """Return the ids of all jobs that are anywhere, one entry for each place."""
        lists = [self._ask("LRANGE", f"{self.base}:{name}", 0, -1) for name in ("wait", "active")]
        sets = [self._ask("ZRANGE", f"{self.base}:{name}", 0, -1) for name in ("prioritized", "delayed")]
        return [job.decode() for found in (*lists, *sets) for job in found]

    def hash(self, name: str) -> dict[str, str]:
        """Return a hash of admission."""
        words = self._ask("HGETALL", f"{self.base}:adm:{name}")
        items = words.items() if isinstance(words, dict) else zip(words[::2], words[1::2], strict=True)
        return {key.decode(): value.decode() for key, value in items}

    def move(self, job: str, lane: str) -> None:
        """Note which lane a job belongs to."""
        self._ask("HSET", f"{self.base}:{job}", LANE, lane)

    def lose(self, *names: str) -> None:
        """Lose keys of admission, by patterns."""
        for name in names:
            for key in self._ask("KEYS", f"{self.base}:adm:{name}"):
                self._ask("DEL", key)

    def clear(self) -> None:
        """Delete everything."""
        for key in self._ask("KEYS", f"{self.base}:*"):
            self._ask("DEL", key)

    def _milliseconds(self) -> int:
        return int((EPOCH_SECONDS + self.now) * 1000)

    def _run(self, call: ScriptCall) -> Any:
        text = consumer_script(call.script)
        arguments = [*call.arguments, TAKING.get(call.script, 0), f"{self.base}:"]
        return self._script(text)(call.keys, arguments)

    def _own(self, name: str, key: str, arguments: list[Any]) -> int:
        names = ("admission_learning", f"admission_{name}") if name == "report" else (f"admission_{name}",)
        text = b"".join(map(script, ("admission", *names)))
        answer: int = self._script(text)([f"{self.base}:{key}"], [*arguments, f"{self.base}:"])
        return answer

    def _script(self, text: bytes) -> Any:
        if text not in self._scripts:
            self._scripts[text] = self._client.register_script(self._in_time(text))
        return self._scripts[text]

    def _in_time(self, text: bytes) -> bytes:
        real = b"local time = redis.call('TIME')"
        virtual = f"local time = {{string.match(redis.call('GET', '{self.base}:now'), '(%d+) (%d+)')}}"
        if b"time_now" in text and real not in text:
            raise AssertionError("the scripts read the time in another way")
        return text.replace(real, virtual.encode())


@contextmanager
def virtual_admission(url: str) -> Iterator[VirtualAdmission]:
    """Make a queue of its own on a server, or on the node of a cluster that has its keys."""
    base = f"{{virtual:{uuid4().hex}}}"
    client = redis.Redis.from_url(url, protocol=2)
    if IN_CLUSTER:
        with closing(client):
            owner = owner_url(client, base)
        client = redis.Redis.from_url(owner, protocol=2)
    queue = VirtualAdmission(client, base)
    queue.set_time(0)
    try:
        yield queue
    finally:
        queue.clear()
        client.close()
