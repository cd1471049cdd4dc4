"""Email addresses, as tenants and contacts write them."""

import re
from dataclasses import dataclass
from functools import lru_cache

from mauntic_jobs.errors import JobFailedError

_LONGEST = 1_000
_LONGEST_LOCAL, _LONGEST_SPEC = 64, 254
# What nearly all addresses look like: nothing in them needs a closer look.
_PLAIN = re.compile(
    r"([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)@((?:[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,62}\.)+[A-Za-z]{2,63})"
)
_NAMED = re.compile(r'(?:"((?:[^"\\]|\\.)*)"|([^"<>]*))\s*<([^<>]*)>')
_ESCAPED = re.compile(r"\\(.)")


class AddressError(JobFailedError):
    """A text is not one email address."""


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox. `domain` is in ASCII, lower case; `local` may not be ASCII, which takes a server with SMTPUTF8."""

    name: str
    local: str
    domain: str

    @property
    def spec(self) -> str:
        """The address without the name, as SMTP names it."""
        return f"{self.local}@{self.domain}"

    def __str__(self) -> str:
        """Return the address with its name, as in a header that may hold any character."""
        name = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{name}" <{self.spec}>' if name else self.spec

    @property
    def needs_smtputf8(self) -> bool:
        """Whether it can only be written in UTF-8."""
        return not self.local.isascii()


def parse_address(text: str) -> Address:
    """Return the address in `a@b.example` or `A name <a@b.example>`. Raises AddressError, which says what is wrong."""
    plain = _PLAIN.fullmatch(text)
    if plain and len(plain[1]) <= _LONGEST_LOCAL and len(text) <= _LONGEST_SPEC:
        return Address("", plain[1], plain[2].lower())
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    from email_validator import EmailNotValidError, validate_email

    text = text.strip(" \t")
    if len(text) > _LONGEST or not text.isprintable():
        raise AddressError("it is not an email address: it is too long, or has control characters")
    named = _NAMED.fullmatch(text)
    name, spec = (_ESCAPED.sub(r"\1", named[1] or named[2] or "").strip(), named[3]) if named else ("", text)
    if named and named[2] and "," in named[2] and "@" in named[2]:
        raise AddressError("it is more than one email address")
    try:
        valid = validate_email(
            spec, globally_deliverable=False, check_deliverability=False, test_environment=True, strict=True
        )
    except EmailNotValidError:
        # Its own words may quote the address.
        raise AddressError("it is not an email address like ann@example.com") from None
    return Address(name, valid.local_part, (valid.ascii_domain or valid.domain).lower())
