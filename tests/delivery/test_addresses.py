"""Email addresses: what nearly all look like is read without a library, and as the library reads it."""

import subprocess
import sys

from email_validator import validate_email
from hypothesis import given, strategies as st

from mauntic_jobs.delivery.addresses import Address, parse_address

LABEL = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]?[A-Za-z0-9]){0,5}", fullmatch=True).filter(
    lambda text: "--" not in text
)
WORD = st.from_regex(r"[A-Za-z0-9_+-]{1,12}", fullmatch=True)
END = st.from_regex(r"[A-Za-z]{2,6}", fullmatch=True)


@given(local=st.lists(WORD, min_size=1, max_size=3), labels=st.lists(LABEL, min_size=1, max_size=3), end=END)
def test_a_plain_address_is_read_as_the_library_reads_it(local: list[str], labels: list[str], end: str) -> None:
    text = f"{'.'.join(local)}@{'.'.join([*labels, end])}"
    valid = validate_email(text, check_deliverability=False, globally_deliverable=False, test_environment=True)
    assert valid.ascii_domain is not None
    expected = Address("", valid.local_part, valid.ascii_domain.lower())
    assert parse_address(text) == expected
    for named in (f"Ann Lee <{text}>", f'"Ann Lee" <{text}>'):
        assert parse_address(named) == Address("Ann Lee", expected.local, expected.domain)


def test_the_library_is_loaded_only_for_an_address_that_takes_it() -> None:
    script = (
        "import sys; from mauntic_jobs.delivery.addresses import parse_address as p; name = 'email_validator'\n"
        "p('ann@example.com'); p('News <news@acme.test>'); print(name in sys.modules)\n"
        "p('News <ñandú@acme.test>'); print(name in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert found.split() == ["False", "True"]
