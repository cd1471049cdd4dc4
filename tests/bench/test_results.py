"""A stored result says how it was measured, and nothing about files and servers."""

import json
import sys
from pathlib import Path

import pytest

from bench import _results as results


def test_the_command_is_kept_without_files_and_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "found.json"
    own = ["--rows", "1M", "--database-url", "postgresql://user:secret@host/db", "--json", str(path), "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", [str(results.RESULTS.parent / "aggregate_hourly.py"), *own])
    monkeypatch.setattr("shutil.which", lambda _: None)
    results.store(path, {"seconds": 1.5})
    found = json.loads(path.read_text("utf-8"))
    assert found["origin"]["command"] == "python bench/aggregate_hourly.py --rows 1M --rounds 2"
    assert found["seconds"] == 1.5
    assert "secret" not in path.read_text("utf-8")


def test_without_a_file_nothing_is_stored() -> None:
    results.store(None, {"seconds": 1.5})
