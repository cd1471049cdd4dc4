"""Headers that a message may set, as they go over the wire."""

from email import charset, message_from_string, policy

import pytest

from mauntic_jobs.delivery.render.headers import HeaderError, custom_field
from tests.world.corpus import Case, each_case


@each_case("header_fields")
def test_a_header_is_folded_and_encoded_as_its_readers_expect(case: Case) -> None:
    name, value = case.input["name"], case.input["value"]
    if not case.answer:
        with pytest.raises(HeaderError, match=name):
            custom_field(name, value)
        return
    field = custom_field(name, value)
    assert field == case.answer
    assert all(line.strip() and len(line) <= 998 for line in field.split("\r\n"))
    # Unfolding restores what was meant; JSON may have got blanks and escapes.
    if not value.startswith(("{", "=?")) and "=?" not in value:
        assert message_from_string(f"{field}\r\n\r\n", policy=policy.default)[name] == value


def test_encoded_words_are_those_of_this_program_whatever_a_library_prefers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charset, "CHARSETS", dict(charset.CHARSETS))
    charset.add_charset("utf-8", charset.QP, charset.QP, "utf-8")
    assert custom_field("X-Campaign", "Gr\u00fc\u00dfe") == "X-Campaign: =?utf-8?b?R3LDvMOfZQ==?="
