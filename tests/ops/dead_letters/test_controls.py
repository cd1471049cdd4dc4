"""Texts of other programs on every screen: none of them controls the terminal."""

import json
import os
import pty
import re
import subprocess
from contextlib import suppress

import pytest

from tests.delivery.world import World
from tests.ops.dead_letters.failing import EMAIL, fail_jobs, program
from tests.support import command, environment
from tests.world.corpus import read_cases

# Each case is one job. Ids of jobs and payloads hold its text, too.
_TEXTS = [case.input for case in read_cases("shown_texts")]
# What nothing but a program of ours may write: a terminal gets styles from Rich, and carriage returns from the line.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_COMMANDS = [
    *("status", "status --json", "dlq list", "dlq list --jobs", "dlq list --jobs --json", "dlq list --jobs --reveal"),
    *("dlq show {letter}", "dlq show {letter} --json", "dlq show {letter} --reveal", "dlq retry {letter} --dry-run"),
    *("deliveries list", "deliveries list --json", "deliveries show {delivery}", "deliveries show {delivery} --json"),
    *("alerts list", "alerts list --json", "providers list", "metrics", "doctor --verbose", "monitor run --once"),
]


@pytest.fixture
def hostile(world: World) -> World:
    """Leave each text in the places that other programs write."""
    jobs = [
        (f"job-{n}-{text.replace(':', '')}", world.message(f"{text}{n}", subject=text), f"failed: {text}")
        for n, text in enumerate(_TEXTS)
    ]
    for job in jobs:
        fail_jobs(world, [job], name=f"send {job[2]}")
    for number, text in enumerate(_TEXTS):
        world.write(
            "INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, queue_job, owner,"
            " payload, reason, provider) VALUES (%(organization)s, %(delivery)s, 'email', 'failed', %(text)s,"
            " gen_random_uuid(), '{}', %(text)s, %(text)s)",
            delivery=f"{number}{text}",
            text=text,
        )
        world.write(
            "INSERT INTO mauntic_jobs.alerts (fingerprint, cause, severity, summary, action, details, opened_at,"
            " seen_at) VALUES (%(key)s, %(text)s, 'error', %(text)s, %(text)s, '{}', now(), now())",
            key=f"{number}{text}",
            text=text,
        )
    world.provider_of("email", _TEXTS[0], {})
    return world


def _line(world: World, line: str) -> list[str]:
    """Return the words of a command about the first job."""
    job = world.jobs_in("failed")[0]
    words = {"letter": f"{EMAIL}/{job}", "delivery": f"0{_TEXTS[0]}"}
    return [word.format(**words) for word in line.split()]


@pytest.mark.parametrize("line", _COMMANDS)
def test_no_command_lets_a_text_of_others_through(hostile: World, line: str) -> None:
    done = program(hostile, *_line(hostile, line))
    assert done.exception is None or isinstance(done.exception, SystemExit)
    shown = done.stdout + done.stderr
    assert shown
    assert _CONTROL.findall(shown) == []
    if "--json" in line:
        assert json.loads(done.stdout) is not None


@pytest.mark.parametrize("line", ["status", "dlq list --jobs", "dlq show {letter}", "deliveries list", "alerts list"])
def test_no_command_lets_one_through_on_a_terminal(hostile: World, line: str) -> None:
    settings = hostile.settings
    assert settings.redis_url
    variables = environment(
        settings,
        REDIS_URL=settings.redis_url.get_secret_value(),
        MAUNTIC_QUEUE_PREFIX=settings.queue_prefix,
        TERM="dumb",
        COLUMNS="80",
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(*_line(hostile, line)), stdin=theirs, stdout=theirs, stderr=theirs, env=variables):
        os.close(theirs)
        shown = b""
        # Linux says that the other end was closed by an error.
        with suppress(OSError):
            while chunk := os.read(ours, 65_536):
                shown += chunk
    os.close(ours)
    assert "\\u001b" in shown.decode()
    assert _CONTROL.findall(shown.decode().replace("\r\n", "\n")) == []
