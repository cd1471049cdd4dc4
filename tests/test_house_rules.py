import ast
import re
from pathlib import Path

import pytest

from mauntic_jobs import sql
from mauntic_jobs.sql import statements

PACKAGE = Path(sql.__file__).parent.parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
SCRIPTS = {"platform"}  # executed whole, with no names in it
FILES = sorted(path.stem for path in (PACKAGE / "sql").glob("*.sql") if path.stem not in SCRIPTS)
STATEMENTS = [(file, name) for file in FILES for name in statements(file)]
SQL_CLOCKS = re.compile(
    r"\b(?:now|statement_timestamp|transaction_timestamp|clock_timestamp|timeofday)\s*\("
    r"|\b(?:current_(?:timestamp|date|time)|localtime(?:stamp)?)\b",
    re.IGNORECASE,
)
WALL_CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time")}


def _without_comments(text: str) -> str:
    return re.sub(r"--.*", "", text)


def _without_strings(text: str) -> str:
    return re.sub(r"'(?:[^']|'')*'", "''", re.sub(r"\$(\w*)\$.*?\$\1\$", "''", text, flags=re.DOTALL))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.sql")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_sql_is_told_the_time(path: Path) -> None:
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
    assert SQL_CLOCKS.findall(text) == []


@pytest.mark.parametrize(("file", "name"), STATEMENTS)
def test_a_named_statement_is_one_statement(file: str, name: str) -> None:
    text = _without_strings(_without_comments(statements(file)[name].decode())).strip()
    assert text
    assert ";" not in text


@pytest.mark.parametrize("file", FILES)
def test_every_statement_of_a_file_has_a_name_of_its_own_and_a_description(file: str) -> None:
    text = (PACKAGE / "sql" / f"{file}.sql").read_text("utf-8")
    headings = re.findall(r"^-- (\w+) -- [A-Z].+$", text, re.MULTILINE)
    assert headings == list(statements(file))
    # What stands before the first heading belongs to no statement.
    assert _without_comments(text.partition(f"-- {headings[0]} -- ")[0]).strip() == ""


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_loaded(file: str) -> None:
    assert any(f'statements("{file}")' in text for text in SOURCES.values())


@pytest.mark.parametrize(("file", "name"), STATEMENTS)
def test_every_statement_is_used(file: str, name: str) -> None:
    # A name may be put together from that of an index and what is done with it.
    index, _, deed = name.rpartition("_")
    assert any(f'"{name}"' in text or (f'"{index}"' in text and f'}}_{deed}"]' in text) for text in SOURCES.values()), (
        f"{name} in {file}.sql"
    )


@pytest.mark.parametrize(("file", "name"), STATEMENTS)
def test_parameters_are_named(file: str, name: str) -> None:
    text = _without_comments(statements(file)[name].decode())
    assert re.findall(r"(?<!%)(?:%%)*%(?![%(])", text) == []
    assert re.findall(r"%\((?!\w+\)s)", text) == []
    assert not re.search(r"\$\d", text)


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


@pytest.mark.parametrize("path", [path for path in SOURCES if path != "timekeeping/clock.py"])
def test_only_the_clock_reads_the_clock(path: str) -> None:
    assert _clock_reads(SOURCES[path]) == []


def test_the_clock_is_read_in_one_place() -> None:
    assert len(_clock_reads(SOURCES["timekeeping/clock.py"])) == 1


@pytest.mark.parametrize("path", list(SOURCES))
def test_a_module_begins_with_a_noun_phrase(path: str) -> None:
    heading = (ast.get_docstring(ast.parse(SOURCES[path])) or "").partition("\n")[0]
    assert heading.endswith((".", ":"))
    word = heading.partition(" ")[0].strip(":,")
    assert word not in {"What", "How", "Whether", "Which", "Where", "When", "Who"}
    assert not word.endswith("ing") or word == "Finding"


# Texts of migrations stay as they were applied.
_WORDED = {
    **SOURCES,
    **{
        path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8")
        for folder in ("sql", "lua")
        for path in sorted((PACKAGE / folder).glob(f"*.{folder}"))
    },
}


@pytest.mark.parametrize("path", list(_WORDED))
def test_a_sentence_names_the_role_that_it_is_about(path: str) -> None:
    # "nobody" is an account of Unix systems, too.
    text = _WORDED[path].replace('"nobody"', "")
    assert re.findall(r"(?i)\b(?:somebody|nobody|whoever)\b", text) == []


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
