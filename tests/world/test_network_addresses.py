"""Addresses that tenants may have this program connect to, and those that they may not."""

from ipaddress import ip_address

from mauntic_jobs.delivery.sending.allowed_networks import is_public
from tests.world.corpus import Case, each_case


@each_case("network_addresses")
def test_only_the_public_internet_is_open(case: Case) -> None:
    assert is_public(ip_address(case.input)) is case.answer
