"""Email addresses as contacts and producers have them, and how SMTP and the platform name them."""

import pytest

from mauntic_jobs.delivery.addresses import AddressError, parse_address
from tests.world.corpus import Case, each_case


@each_case("email_addresses")
def test_an_address_is_read_as_it_is_meant(case: Case) -> None:
    if "error" in case.answer:
        with pytest.raises(AddressError):
            parse_address(case.input)
        return
    address = parse_address(case.input)
    assert {"spec": address.spec, "plain": address.plain} == case.answer
