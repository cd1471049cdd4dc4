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
_ATOMS_AND_DOTS = re.compile(r"(\"?)([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+)\1@([^@]+)")
# White space, and marks that copied texts bring along: zero-width characters, directions, soft hyphens, byte order.
INVISIBLE = "".join(
    (
        " \t\n\v\f\r\x85\xa0\xad\u061c\u1680\u180e\u3000\ufeff",
        *map(chr, range(0x2000, 0x2010)),
        *map(chr, range(0x2028, 0x2030)),
        *map(chr, range(0x205F, 0x2070)),
    )
)


class AddressError(JobFailedError):
    """A text is not one email address."""


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox. `domain` is in ASCII, lower case; `local` may not be ASCII, which takes a server with SMTPUTF8.

    `local` has no quotes, also where SMTP wants them.
    """

    name: str
    local: str
    domain: str

    @property
    def spec(self) -> str:
        """The address without the name, as SMTP names it: quoted where it has dots that would not be allowed."""
        local = self.local
        return f'"{local}"@{self.domain}' if "." in local and _has_odd_dots(local) else f"{local}@{self.domain}"

    @property
    def plain(self) -> str:
        """The address without the name, as people and the platform write it."""
        return f"{self.local}@{self.domain}"

    def __str__(self) -> str:
        """Return the address with its name, as in a header that may hold any character."""
        name = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{name}" <{self.spec}>' if name else self.spec

    @property
    def needs_smtputf8(self) -> bool:
        """Whether it can only be written in UTF-8."""
        return not self.local.isascii()


def trimmed(text: str) -> str:
    """Return a text without the white space and the invisible characters around it."""
    return text.strip(INVISIBLE)


def _has_odd_dots(local: str) -> bool:
    return local.startswith(".") or local.endswith(".") or ".." in local


def parse_address(text: str) -> Address:
    """Return the address in `a@b.example` or `A name <a@b.example>`. Raises AddressError, which says what is wrong."""
    return _plain("", text) or _parse(text)


def _plain(name: str, spec: str) -> Address | None:
    """Return a mailbox of this name whose address needs no closer look, None for any other."""
    plain = _PLAIN.fullmatch(spec)
    if plain is None or len(plain[1]) > _LONGEST_LOCAL or len(spec) > _LONGEST_SPEC:
        return None
    return Address(name, plain[1], plain[2].lower())


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    text = trimmed(text)
    if len(text) > _LONGEST:
        raise AddressError("it is not an email address: it is too long")
    named = _NAMED.fullmatch(text)
    name, spec = (_ESCAPED.sub(r"\1", named[1] or named[2] or ""), named[3]) if named else ("", text)
    if named and named[2] and "," in named[2] and "@" in named[2]:
        raise AddressError("it is more than one email address")
    name, spec = trimmed(name), trimmed(spec)
    if not (name + spec).isprintable():
        raise AddressError("it is not an email address: it has control characters")
    if (plain := _plain(name, spec)) is not None:
        return plain
    odd = _ATOMS_AND_DOTS.fullmatch(spec)
    if odd and _has_odd_dots(odd[2]) and len(odd[2]) <= _LONGEST_LOCAL - len('""'):
        # Some mobile carriers have such addresses. The domain is held to the same rules as any.
        return Address(name, odd[2], _parse(f"x@{odd[3]}").domain)
    # Few addresses take it: it and what it knows of domains are some megabytes, and a pause while they are loaded.
    from email_validator import EmailNotValidError, validate_email

    try:
        valid = validate_email(
            spec, globally_deliverable=False, check_deliverability=False, test_environment=True, strict=True
        )
    except EmailNotValidError:
        # Its own words may quote the address.
        raise AddressError("it is not an email address like ann@example.com") from None
    return Address(name, valid.local_part, (valid.ascii_domain or valid.domain).lower())
