import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from mauntic_jobs import sql
from mauntic_jobs.sql import statements

PACKAGE = Path(sql.__file__).parent.parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
ALL_SOURCES = "\n".join(SOURCES.values())
SCRIPTS = {"platform"}  # executed whole, with no names in it
FILES = sorted(path.stem for path in (PACKAGE / "sql").glob("*.sql") if path.stem not in SCRIPTS)
STATEMENTS = {(file, name): text.decode() for file in FILES for name, text in statements(file).items()}
SQL_CLOCKS = re.compile(
    r"\b(?:now|statement_timestamp|transaction_timestamp|clock_timestamp|timeofday)\s*\("
    r"|\b(?:current_(?:timestamp|date|time)|localtime(?:stamp)?)\b",
    re.IGNORECASE,
)
WALL_CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time")}


_PlaceT = TypeVar("_PlaceT")


def _broken(found: Mapping[_PlaceT, Sequence[str]]) -> dict[_PlaceT, Sequence[str]]:
    """Return the places where something was found, each with all of it."""
    return {place: each for place, each in found.items() if each}


def _without_comments(text: str) -> str:
    return re.sub(r"--.*", "", text)


def _without_strings(text: str) -> str:
    return re.sub(r"'(?:[^']|'')*'", "''", re.sub(r"\$(\w*)\$.*?\$\1\$", "''", text, flags=re.DOTALL))


def test_sql_is_told_the_time() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): _sql_clock_reads(path) for path in sorted(PACKAGE.rglob("*.sql"))}
    assert len(found) > len(FILES)
    assert _broken(found) == {}


def _sql_clock_reads(path: Path) -> list[str]:
    """Return how a file of SQL asks the server for the time, beyond what it may."""
    text = _without_comments(path.read_text("utf-8"))
    ledgers = (
        "runs.sql",
        "schedules.sql",
        "deliveries.sql",
        "alerts.sql",
        "upkeep.sql",
        "backfills.sql",
        "frequency_caps.sql",
        "0006_delivery_functions.sql",
        "0009_lighter_deliveries.sql",
    )
    if path.name in (*ledgers, "doctor.sql"):
        # The ledgers judge who is alive, by the one clock that all hosts share; the doctor compares it with the host's.
        text = text.replace("clock_timestamp()", "")
    elif path.parent.name == "migrations":
        text = text.replace("DEFAULT clock_timestamp()", "")
    elif path.name == "platform.sql":
        text = text.replace("DEFAULT now()", "")
    return SQL_CLOCKS.findall(text)


def test_a_named_statement_is_one_statement() -> None:
    texts = {name: _without_strings(_without_comments(text)).strip() for name, text in STATEMENTS.items()}
    assert [name for name, text in texts.items() if not text or ";" in text] == []


def test_every_statement_of_a_file_has_a_name_of_its_own_and_a_description() -> None:
    for file in FILES:
        text = (PACKAGE / "sql" / f"{file}.sql").read_text("utf-8")
        headings = re.findall(r"^-- (\w+) -- [A-Z].+$", text, re.MULTILINE)
        assert headings == list(statements(file)), file
        # A text before the first heading would not be part of any statement.
        assert _without_comments(text.partition(f"-- {headings[0]} -- ")[0]).strip() == "", file


def test_every_file_is_loaded() -> None:
    assert [file for file in FILES if f'statements("{file}")' not in ALL_SOURCES] == []


def test_every_statement_is_used() -> None:
    assert [f"{name} in {file}.sql" for file, name in STATEMENTS if not _is_used(name)] == []


def _is_used(name: str) -> bool:
    # A name may be put together from that of an index and what is done with it.
    index, _, deed = name.rpartition("_")
    return f'"{name}"' in ALL_SOURCES or any(
        f'"{index}"' in text and f'}}_{deed}"]' in text for text in SOURCES.values()
    )


def test_parameters_are_named() -> None:
    unnamed = r"(?<!%)(?:%%)*%(?![%(])|%\((?!\w+\)s)|\$\d"
    assert _broken({name: re.findall(unnamed, _without_comments(text)) for name, text in STATEMENTS.items()}) == {}


def _clock_reads(text: str) -> list[str]:
    """Return the places where a source reads the wall clock, by whatever name it imported it."""
    nodes = list(ast.walk(ast.parse(text)))
    names = {
        alias.asname or alias.name: alias.name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    found = []
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=attribute):
                if (names.get(name, name), attribute) in WALL_CLOCKS:
                    found.append(f"{name}.{attribute} in line {node.lineno}")
            case ast.ImportFrom(module="time") if any(alias.name == "time" for alias in node.names):
                found.append(f"from time import time in line {node.lineno}")
    return found


@pytest.mark.parametrize(
    ("code", "reads"),
    [
        ("from datetime import datetime\ndatetime.now(UTC)", 1),
        ("import datetime as dt\ndt.datetime.utcnow()", 1),
        ("from datetime import date as day\nday.today()", 1),
        ("import time\ntime.time()", 1),
        ("from time import time\ntime()", 1),
        ("import time\ntime.monotonic()\nfrom mauntic_jobs import clock\nclock.now()", 0),
    ],
)
def test_a_look_at_the_clock_is_noticed(code: str, reads: int) -> None:
    assert len(_clock_reads(code)) == reads


def test_only_the_clock_reads_the_clock_and_in_one_place() -> None:
    found = {path: _clock_reads(text) for path, text in SOURCES.items()}
    assert len(found.pop("timekeeping/clock.py")) == 1
    assert _broken(found) == {}


@pytest.mark.parametrize(
    ("heading", "is_noun_phrase"),
    [
        ("Clock of the host.", True),
        ("Finding of the doctor:", True),
        ("Clock of the host", False),
        ("How the clock is read.", False),
        ("Reading the clock.", False),
        ("", False),
    ],
)
def test_a_heading_that_is_no_noun_phrase_is_noticed(heading: str, is_noun_phrase: bool) -> None:
    assert _is_noun_phrase(heading) is is_noun_phrase


def test_a_module_begins_with_a_noun_phrase() -> None:
    headings = {path: (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0] for path, text in SOURCES.items()}
    assert {path: heading for path, heading in headings.items() if not _is_noun_phrase(heading)} == {}


def _is_noun_phrase(heading: str) -> bool:
    word = heading.partition(" ")[0].strip(":,")
    if word in {"What", "How", "Whether", "Which", "Where", "When", "Who"}:
        return False
    return heading.endswith((".", ":")) and (not word.endswith("ing") or word == "Finding")


# Texts of migrations stay as they were applied.
_WORDED = {
    **SOURCES,
    **{
        path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8")
        for folder in ("sql", "lua")
        for path in sorted((PACKAGE / folder).glob(f"*.{folder}"))
    },
}


def test_a_sentence_names_the_role_that_it_is_about() -> None:
    # "nobody" is an account of Unix systems, too.
    texts = {path: text.replace('"nobody"', "") for path, text in _WORDED.items()}
    found = {path: re.findall(r"(?i)\b(?:somebody|nobody|whoever)\b", text) for path, text in texts.items()}
    assert _broken(found) == {}


def test_no_two_classes_share_a_name() -> None:
    found = [name for text in SOURCES.values() for name in re.findall(r"^class (\w+)", text, re.MULTILINE)]
    assert [name for name in set(found) if found.count(name) > 1] == []


# What only the caller or a driver knows. Where a function takes whatever it is given, `object` says so, and is checked.
MAX_LINES_WITH_ANY = 200


def test_few_values_have_no_type() -> None:
    lines = [
        f"{path}: {line.strip()}"
        for path, text in SOURCES.items()
        for line in text.splitlines()
        if re.search(r"\bAny\b", line) and "import" not in line
    ]
    assert len(lines) <= MAX_LINES_WITH_ANY, "\n".join(lines)
