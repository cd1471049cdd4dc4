"""From a fault to its end: the finding, the exit codes, one alert however often it is looked, and one all-clear."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.settings.settings import Settings
from tests.ops import incidents_of_jobs, incidents_of_messages
from tests.ops.incident import Incident
from tests.ops.incident_site import Site, command_in, standing_site
from tests.valkey import valkey

_INCIDENTS = [*incidents_of_jobs.INCIDENTS, *incidents_of_messages.INCIDENTS]


@pytest.fixture(scope="module")
def own_redis(servers: Servers) -> Iterator[str]:
    with valkey(servers, "incidents", "appendonly yes") as url:
        yield url


@pytest.fixture
def site(direct_settings: Settings, own_redis: str, tmp_path: Path) -> Iterator[Site]:
    with standing_site(direct_settings, own_redis, tmp_path) as made:
        yield made
        made.rig.redis.replicaof("NO", "ONE")
        made.rig.redis.config_set("maxmemory", "0")
        made.rig.redis.flushall()


def _look(site: Site, incident: Incident) -> dict[str, int]:
    return {line: site.run(line, watching=line.startswith("monitor")).exit_code for line in incident.codes}


@pytest.mark.parametrize("incident", _INCIDENTS, ids=lambda incident: incident.happens.__name__)
@pytest.mark.usefixtures("same_hour")
def test_an_incident_is_found_told_once_and_over_once(site: Site, incident: Incident) -> None:
    course = incident.happens(site)
    next(course)
    assert _look(site, incident) == incident.codes
    _look(site, incident)
    (opened,) = site.told()
    assert (opened["event"], opened["cause"]) == ("opened", incident.cause)
    assert command_in(opened["action"])
    _assert_found(site, incident, opened["action"])
    next(course, None)
    assert set(_look(site, incident).values()) == {ExitCode.DONE}
    _look(site, incident)
    (over,) = site.told()
    assert (over["event"], over["fingerprint"]) == ("closed", opened["fingerprint"])
    assert site.open() == []


def _assert_found(site: Site, incident: Incident, action: str) -> None:
    findings = json.loads(site.run("status --json", watching=True).stdout)["findings"]
    assert action in [each["command"] for each in findings if each["subject"] == incident.cause]
    if incident.status:
        others = [each for each in findings if each["subject"] != incident.cause]
        (found,) = [each for each in others if incident.status in each["text"]]
        assert found["command"] is None or command_in(found["command"])
    if incident.doctor:
        code, report = site.examine()
        found = [each for each in report["findings"] if (each["area"], each["check"]) == incident.doctor]
        assert any(each["severity"] in ("error", "warning") and each["to_do"] for each in found)
        assert code == (ExitCode.FAILED if report["error"] else ExitCode.DONE)


def test_there_are_no_fewer_than_twenty() -> None:
    assert len(_INCIDENTS) >= 20
