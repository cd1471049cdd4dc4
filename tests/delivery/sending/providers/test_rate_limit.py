"""Rate limits in the configuration of a provider, by the keys of nodemailer."""

from typing import Any

import pytest

from mauntic_jobs.delivery.admission.lanes import entries_of
from mauntic_jobs.delivery.sending.providers.keys import canonical, problems, unknown_keys
from mauntic_jobs.delivery.sending.providers.rate_limit import RateLimit, limits_entry, rate_limit_of


@pytest.mark.parametrize(
    ("values", "limit", "entry"),
    [
        ({}, None, None),
        ({"rateLimit": 0}, None, None),
        ({"rateLimit": False, "rateDelta": 1000}, None, None),
        ({"rateLimit": 14}, RateLimit(14, 1.0), "72143:0"),
        ({"rateLimit": "14"}, RateLimit(14, 1.0), "72143:0"),
        ({"rateLimit": 0.5}, RateLimit(0.5, 1.0), "2020000:0"),
        ({"rateLimit": 100, "rateDelta": 60_000}, RateLimit(100, 60.0), "606000:0"),
        ({"rateLimit": 10, "rateBurst": 5}, RateLimit(10, 1.0, 5), "101000:404000"),
        ({"rate_limit": 10, "rate_burst": 2}, RateLimit(10, 1.0, 2), "101000:101000"),
    ],
)
def test_what_a_configuration_means(values: dict[str, Any], limit: RateLimit | None, entry: str | None) -> None:
    read = canonical("postmark", {"serverToken": "t", **values})
    assert problems("postmark", read) == unknown_keys("postmark", read) == []
    assert rate_limit_of(read) == limit
    assert (limit.entry if limit else None) == entry


@pytest.mark.parametrize(
    ("values", "entry"),
    [
        ({}, "p"),
        ({"rateLimit": 14}, "p@72143:0"),
        ({"dailyLimit": 500}, "p@::500"),
        ({"dailyLimit": "500", "rateLimit": 14}, "p@72143:0:500"),
        ({"daily_limit": 500, "rate_limit": 10, "rate_burst": 2}, "p@101000:101000:500"),
        ({"dailyLimit": 0}, "p"),
        ({"dailyLimit": -1}, "p"),
    ],
)
def test_what_the_scripts_are_told(values: dict[str, Any], entry: str) -> None:
    found = limits_entry("p", canonical("postmark", values))
    assert found == entry
    (read,) = entries_of(found)
    assert read.daily == (500 if "500" in entry else None)
    assert (read.rate is None) == ("rate" not in "".join(values))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rateLimit": -1}, "rateLimit"),
        ({"rateLimit": True}, "rateLimit"),
        ({"rateLimit": "fast"}, "rateLimit"),
        ({"rateLimit": {"max": 14}}, "rateLimit"),
        ({"rateLimit": 1e300}, "rateLimit"),
        ({"rateLimit": 14, "rateDelta": -5}, "rateDelta"),
        ({"rateLimit": 14, "rateDelta": 10**9}, "rateDelta"),
        ({"rateLimit": 14, "rateBurst": 1.5}, "rateBurst"),
        ({"dailyLimit": 1.5}, "dailyLimit"),
        ({"dailyLimit": "many"}, "dailyLimit"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], named: str) -> None:
    (problem,) = problems("postmark", {"serverToken": "t", **values})
    assert problem.startswith(f"{named} is not ")
    assert rate_limit_of(values) is None
