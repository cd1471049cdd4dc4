"""25 secrets, and 1,000 recipients with their names, go through every success and failure: none is seen afterwards."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.stores.redis.client import open_redis
from tests.delivery.canaries import emails, leaks, phones, tokens
from tests.delivery.crash import ended, start
from tests.delivery.echo import KINDS, Echo
from tests.delivery.fake_api import running_api
from tests.delivery.flock import CHANNEL_OF, FAULTS, KEPT, SMTP, Flock, whole_of
from tests.delivery.sink import running_sink
from tests.delivery.web import free_port, get
from tests.delivery.world import World
from tests.support import APP, wait_until

_OPEN = ("wait", "active")


@pytest.fixture
def flock(world: World, tmp_path: Path) -> Iterator[Flock]:
    recipients = {"email": emails(500), "sms": phones(350), "push": tokens(150)}
    everyone = [each for found in recipients.values() for each in found]

    def whom(text: str) -> str:
        found = re.search(r"quillon\d{4}|devtok\d{4}|(?<=\+1)\d{10}|(?<=\+44)\d{10}", text)
        return next((each.whole for each in everyone if found and each.core == found[0]), "nobody")

    given = {
        "postmark": ["postmark"],
        "sendgrid": ["sendgrid"],
        "ses": ["ses-id", "ses-secret", "ses-session"],
        "twilio": ["twilio-token"],
        "fcm": ["grant", "fcm"],
        **{name: [name] for name in SMTP},
    }
    echo = Echo({kind: [KEPT[each].core for each in names] for kind, names in given.items()}, whom)
    with running_api(echo) as api, running_sink(tmp_path, login=("zoe", "unused")) as sink:
        sink.behaviour.auth_reply = "235 2.7.0 welcome"
        world.point(**{kind: f"{api.url}/{kind}" for kind in (*KINDS, "google_token")})
        flock = Flock(world, echo, sink, recipients)
        sink.behaviour.at_recipient = lambda address: flock.refusal(address) if len(address) % 2 else None
        sink.behaviour.at_content = lambda content: flock.refusal(content.decode())
        yield flock


def _queue_everything(flock: Flock) -> None:
    """Put the messages of the first run on the queues."""
    for kind in KINDS:
        channel = CHANNEL_OF.get(kind, "email")
        flock.organization(kind, sealed=kind in ("ses", "twilio"))
        flock.send(channel, {"email": 60, "sms": 250, "push": 90}[channel], "refuse")
        for fate in FAULTS:
            flock.organization(kind)
            flock.send(channel, 3, fate)
    for name in SMTP:
        flock.smtp(name)
        flock.send("email", 50, "refuse")
    flock.organization("postmark", "sendgrid", "ses")
    flock.send("email", 5, "login")
    _queue_what_cannot_be_sent(flock)


def _queue_what_cannot_be_sent(flock: Flock) -> None:
    """Put malformed jobs on the queues, and messages for providers that cannot be used."""
    for config in (
        f"base64:{whole_of('unsealed')}",
        {"apiKey": whole_of("no-header")},
        {
            "from": f"Zoe {flock.names[-1].whole} <{flock.recipients['email'][-1].core} at example.com>",
            "apiKey": whole_of("sendgrid"),
        },
        {"serviceAccountKey": whole_of("no-json"), "projectId": "acme-app"},
    ):
        flock.organization()
        channel, kind = ("push", "fcm") if "serviceAccountKey" in config else ("email", "sendgrid")
        flock.world.provider_of(channel, kind, config)  # type: ignore[arg-type]  # a text is what is encrypted
        flock.send(channel, 2, "accept")
    flock.organization("postmark")
    whom = flock.recipients["email"][0].whole
    for fields in (
        {"emailAddress": [whom]},
        {"headers": {whom: 1}},
        {"channel": whom},
        {"organizationId": whom},
        {"replyTo": f"{whom}, and others"},
        {"headers": {f"X {whom}": "x"}},
        {"templateId": whom},
        {"body": "Dear {{#if " + whom},
        {"badge": whom},
    ):
        flock.send("email", 1, "accept", fields)
    name = uuid4().hex + "y"
    flock.world.add(flock.world.message("broken"), ids=[name])
    flock.world.ask("HSET", f"{flock.world.base}:{name}", "data", f'{{"emailAddress": "{whom}", ')
    flock.world.add(flock.world.message("unreadable"), ids=[name + "z"])
    flock.world.ask("HSET", f"{flock.world.base}:{name}z", "timestamp", whom)


def _run(flock: Flock, seen: dict[str, str], *options: str, **extra: str) -> None:
    """Deliver what there is, and note what is seen of it."""
    run, port, lines = f"run {len(seen)}", free_port(), list[bytes]()
    with TemporaryFile("w+", encoding="utf-8") as output:
        own: dict[str, Any] = {**flock.settings, "PORT": str(port), **extra}
        process = start(flock.world, "--all", *options, output=output.fileno(), **own)
        try:
            with _settling(flock.world) as settled:
                wait_until(settled, "the messages")
            served = [get(port, path)[1] for path in ("/health", "/ready", "/metrics")]
            lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _is_of(process.pid, path)]
        finally:
            process.send_signal(signal.SIGTERM)
            assert ended(process)[0] == 0
        output.seek(0)
        said = output.read()
    assert len(lines) == (3 if options else 1)
    seen |= {f"{run}: served": "".join(served), f"{run}: arguments": repr(lines), f"{run}: output": said}


@contextmanager
def _settling(world: World) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether no message is waiting or in hand."""
    keys = [f"{world.settings.queue_prefix}:{channel.queue}:{name}" for channel in CHANNELS.values() for name in _OPEN]
    with closing(open_redis(world.settings)) as redis:
        yield lambda: not any(redis.command("LLEN", key) for key in keys)


def _is_of(process: int, path: Path) -> bool:
    """Tell whether a process is that process, or a child of it."""
    with suppress(OSError):
        return str(process) in (path.parent.name, path.with_name("stat").read_text().rpartition(")")[2].split()[1])
    return False


def _stored(flock: Flock) -> Iterator[tuple[str, str]]:
    """Yield all that is in Redis except what producers wrote, and what the ledger says of each delivery."""
    world = flock.world
    reading = {"hash": ("HGETALL",), "string": ("GET",), "stream": ("XRANGE", "-", "+"), "set": ("SMEMBERS",)}
    reading |= {"zset": ("ZRANGE", "0", "-1"), "list": ("LRANGE", "0", "-1")}
    found = []
    # To connect takes longer than to ask.
    with closing(open_redis(world.settings)) as redis:
        keys = [*redis.command("KEYS", f"{world.settings.queue_prefix}:*"), *redis.command("KEYS", "delivery:idem:*")]
        for key in keys:
            if (kind := redis.command("TYPE", key).decode()) == "none":
                continue  # it expired, or another test removed its own
            verb, *rest = reading[kind]
            value = redis.command(verb, key, *rest)
            if kind == "hash":
                value = {name: each for name, each in value.items() if name not in (b"data", b"timestamp")}
            found.append(f"{key!r} {value!r}")
    yield "Redis", "\n".join(found)
    rows = world.session.rows(b"SELECT reason, attempts, provider FROM mauntic_jobs.deliveries")
    yield "ledger", "\n".join(f"{row}" for row in rows)
    yield "events", "\n".join(f"{row}" for row in world.session.rows(b"SELECT metadata FROM delivery.delivery_events"))


def _asked(flock: Flock, *words: str) -> str:
    world = flock.world
    assert world.settings.database_url and world.settings.redis_url  # noqa: PT018
    own = {
        "DATABASE_URL": world.settings.database_url.get_secret_value(),
        "REDIS_URL": world.settings.redis_url.get_secret_value(),
        "MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix,
        "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    done = CliRunner().invoke(APP, words, env={**flock.settings, **own})
    assert done.exit_code in (0, 1, 3, 4), done.output
    return done.output


_QUESTIONS = (
    *("deliveries list --limit 2000", "deliveries show {id}", "dlq list", "dlq list --jobs --limit 2000"),
    *("dlq show {letter}", "status", "doctor", "providers list", "providers check", "alerts list", "config show"),
)


@pytest.mark.usefixtures("started_processes")  # a forked process shows the arguments of the fork server
def test_no_canary_is_seen_except_by_a_person_who_asked(flock: Flock) -> None:
    seen: dict[str, str] = {}
    assert len(flock.secrets) == 25
    _queue_everything(flock)
    _run(flock, seen, "--processes", "2")
    flock.sink.behaviour.auth_reply = flock.refusal("")
    flock.sink.behaviour.mail_reply = flock.refusal("")
    flock.smtp("smtp-plain")
    for channel in ("email", "sms", "push"):
        flock.send(channel, 1000, "accept")
    assert len(flock.ids) == 1000
    _run(flock, seen, MAUNTIC_LOG_FORMAT="human")
    assert len(flock.echo.repeated) > 500
    seen |= dict(_stored(flock))
    flock.world.channel = "email"
    letter = f"delivery:send-email/{flock.world.jobs_in('failed')[0]}"
    for question in _QUESTIONS:
        words = question.format(id=flock.ids[0], letter=letter).split()
        for extra in ([], ["--json"]):
            seen[" ".join([*words, *extra])] = _asked(flock, *words, *extra)
    seen["dlq export"] = _asked(flock, "dlq", "export", "-")
    found = {place: leaks(text, flock.everything) for place, text in seen.items()}
    assert {place: each for place, each in found.items() if each} == {}
    shown = _asked(flock, "deliveries", "show", flock.ids[0], "--reveal")
    assert flock.recipients["email"][0].core in shown
    assert flock.recipients["email"][0].core in _asked(flock, "dlq", "export", "-", "--reveal")
