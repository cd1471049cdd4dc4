"""docs/runbook.md, walked through: its commands are run, in its order, where its incidents have happened."""

import doctest
import html
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from tests.ops import faults
from tests.ops.incident_site import Site, standing_site
from tests.ops.rig import KEY
from tests.valkey import valkey

_PAGE = Path(__file__).parent.parent / "docs/runbook.md"
_REGULARLY = ("monitor run --once",)
# What differs from day to day.
_CHANGING = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"(?:\d{4}-)?\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|\+00:00)?)?", "TIME"),
    (r"\b\d+(?:\.\d+)? ?(?:m?s|m)(?: ago)?\b", "TIME"),
    (r"<[0-9a-f-]+@acme\.test>", "<MESSAGE>"),
    (r"\s+", " "),
)


class Incident(NamedTuple):
    """What happens, and what people do about it other than by commands of the page."""

    happens: Callable[[Site], None]
    people: Callable[[Site], None] = lambda _: None
    command: str | None = None


def _key_missing(site: Site) -> None:
    site.rig.execute("ALTER TABLE mauntic_jobs.runs ALTER COLUMN id RESTART WITH 42")
    faults.key_missing(site.rig)


def _outage(site: Site) -> None:
    site.sink.behaviour.recipients["ann"] = "policy-550"
    site.world.add(*(site.world.message(f"d{n}") for n in range(21)), ids=[f"m{n}" for n in range(21)])
    site.deliver()


def _outage_ends(site: Site) -> None:
    site.sink.behaviour.recipients.clear()


def _no_answer(site: Site) -> None:
    site.world.add(site.world.message(deliveryId="7f3c2f9e", emailAddress="drop-after-dot@any.example"))
    site.deliver()
    site.deliver()
    site.age()


def _other_key(site: Site) -> None:
    site.rig.variables["ENCRYPTION_KEY"] = "ff" * 32
    site.world.add(site.world.message(deliveryId="7f3c2f9e"))
    site.deliver()
    site.age()


def _key_put_right(site: Site) -> None:
    site.rig.variables["ENCRYPTION_KEY"] = KEY


def _redis_emptied(site: Site) -> None:
    site.provide(port=1)
    site.world.add(site.world.message())
    site.deliver()
    site.run("monitor run --once")
    site.rig.redis.flushall()
    site.provide()


def _host_was_down(site: Site) -> None:
    site.wait_on_the_queue(120, timedelta(days=3))
    site.deliver()


INCIDENTS = {
    "A job failed": Incident(_key_missing, command="aggregate-hourly --slot latest"),
    "No clock runs the jobs": Incident(Site.overdue),
    "Dead letters after an outage": Incident(_outage, _outage_ends),
    "It is unknown whether a message was sent": Incident(_no_answer),
    "The host was down for three days": Incident(_host_was_down),
    "No provider takes the messages": Incident(_other_key, _key_put_right),
    "Redis has lost its data": Incident(_redis_emptied),
}
_SECTIONS = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", _PAGE.read_text(), re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def own_redis(servers: Servers) -> Iterator[str]:
    with valkey(servers, "runbook", "appendonly yes") as url:
        yield url


@pytest.fixture
def site(direct_settings: Settings, own_redis: str, tmp_path: Path) -> Iterator[Site]:
    with standing_site(direct_settings, own_redis, tmp_path) as made:
        made.rig.variables |= {
            "DATABASE_URL": made.superuser,
            "MAUNTIC_ALERTS": f'[{{"type": "slack", "url": "{made.inbox.url}"}}]',
            "MAUNTIC_LAUNCHER_ID": "jobs-1",
        }
        yield made
        made.rig.redis.flushall()


@pytest.mark.parametrize("title", INCIDENTS)
def test_the_commands_of_the_page_lead_from_the_alert_to_its_end(site: Site, title: str) -> None:
    incident = INCIDENTS[title]
    incident.happens(site)
    if incident.command:
        site.run(incident.command)
    _regularly(site)
    look, fix, over = re.split(r"^\*\*(?:Fix|Over)\*\*", _SECTIONS[title], flags=re.MULTILINE)
    alert = _message(look)
    _assert_same(alert, _received(site))
    # The first command is the one that the alert names.
    assert f"Next: {_commands(look + fix)[0][0]}\n" in alert
    _walk(site, look)
    incident.people(site)
    _walk(site, fix)
    site.deliver()
    _regularly(site)
    _assert_same(_message(over), _received(site))
    _walk(site, over)
    assert site.open() == []


def test_every_incident_of_the_page_is_walked_through() -> None:
    assert list(INCIDENTS) == list(_SECTIONS)


def _regularly(site: Site) -> None:
    for line in _REGULARLY:
        site.run(line)


def _received(site: Site) -> str:
    """Return what has arrived, as Slack shows it."""
    text = html.unescape("\n".join(notice["text"] for notice in site.told()))
    return text.replace("*", "").replace("`", "")


def _message(part: str) -> str:
    (found,) = re.findall(r"^```text\n(.+?)^```", part, re.DOTALL | re.MULTILINE)
    return str(found)


def _commands(part: str) -> list[tuple[str, str]]:
    """Return the commands of a part of the page, and what it shows them to print."""
    blocks = re.findall(r"^```console\n(.+?)^```", part, re.DOTALL | re.MULTILINE)
    return [found for block in blocks for found in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]


def _walk(site: Site, part: str) -> None:
    for line, shown in _commands(part):
        _assert_same(shown, site.run(line.removeprefix("mauntic-jobs ")).output)


def _assert_same(shown: str, got: str) -> None:
    shown, got = _settled(shown), _settled(got)
    assert doctest.OutputChecker().check_output(shown, got, doctest.ELLIPSIS), f"{shown}\n\n{got}"


def _settled(text: str) -> str:
    for pattern, name in _CHANGING:
        text = re.sub(pattern, name, text)
    return text.strip()
