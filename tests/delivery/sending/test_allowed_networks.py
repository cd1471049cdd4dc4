"""Which hosts tenants may reach."""

import asyncio

import pytest

from mauntic_jobs.delivery.sending.allowed_networks import Network, NetworkError, parse_networks
from mauntic_jobs.delivery.sending.providers.registry import network_of
from mauntic_jobs.settings.settings import Settings


def resolve(host: str, *, allowed: str = "", loopback: bool = False, port: int = 25) -> list[str]:
    return asyncio.run(Network(parse_networks(allowed), loopback).resolve(host, port))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"),  # noqa: S104
        *("10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1", "fe80::1", "fd00::1"),
        *("::ffff:10.0.0.1", "2002:0a00:0001::1", "64:ff9b::10.0.0.1", "224.0.0.1", "255.255.255.255"),
    ],
)
def test_private_addresses_are_refused_however_they_are_written(host: str) -> None:
    with pytest.raises(NetworkError, match=r"is in a private network|is not known"):
        resolve(host)


def test_public_addresses_are_reached_by_the_address_that_was_checked() -> None:
    assert resolve("8.8.8.8") == ["8.8.8.8"]
    assert resolve("2001:4860:4860::8888") == ["2001:4860:4860::8888"]


def test_an_allowed_network_may_be_private() -> None:
    assert resolve("10.1.2.3", allowed="10.1.0.0/16, fd00::/8") == ["10.1.2.3"]
    with pytest.raises(NetworkError):
        resolve("10.2.0.1", allowed="10.1.0.0/16")


def test_this_machine_is_reached_in_development_only() -> None:
    assert resolve("127.0.0.1", loopback=True) == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300, "bad\nhost"])
def test_a_host_that_is_not_known_is_an_error_that_says_so(host: str) -> None:
    with pytest.raises(NetworkError, match="is not known"):
        resolve(host)


@pytest.mark.parametrize("port", [1, 22, 80, 443, 3306, 5432, 6379, 9200, 11211, 65535])
def test_ports_that_are_not_for_mail_are_refused_by_name(port: int) -> None:
    with pytest.raises(NetworkError, match=f"port {port} of '8.8.8.8' is not one of 25, 26, .* smtp_ports"):
        resolve("8.8.8.8", port=port)
    assert resolve("10.1.2.3", allowed="10.1.0.0/16", port=port) == ["10.1.2.3"]


def test_the_setting_decides_the_ports() -> None:
    network = network_of(Settings(smtp_ports=[1025]))
    assert asyncio.run(network.resolve("8.8.8.8", 1025)) == ["8.8.8.8"]
    with pytest.raises(NetworkError, match=r"port 25 of .* is not one of 1025"):
        asyncio.run(network.resolve("8.8.8.8", 25))
