"""The image's install steps, executed here as they stand, in other directories."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_DOCKERFILE = (_ROOT / "Dockerfile").read_text()


def _stages() -> list[list[tuple[str, str]]]:
    stages: list[list[tuple[str, str]]] = []
    for line in _DOCKERFILE.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


def test_what_the_build_stage_installs_works(tmp_path: Path) -> None:
    source, opt = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    build, _final = _stages()
    for word, rest in build:
        if word == "COPY":
            *names, target = rest.split()
            for name in names:
                place = source / target / Path(name).name if target.endswith("/") else source / target
                place.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (_ROOT / name).is_dir() else shutil.copy
                copy(_ROOT / name, place)
        elif word == "RUN":
            step = rest.replace("/opt/", f"{opt}/").replace("/src", str(source))
            step = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", step)
            done = subprocess.run(step, shell=True, cwd=source, capture_output=True, text=True, check=False)  # noqa: S602
            assert done.returncode == 0, done.stderr
    (package,) = opt.glob("mauntic-jobs/lib/python*/site-packages/mauntic_jobs")
    sources = {path.relative_to(package).with_suffix("") for path in package.rglob("*.py")}
    compiled = {path.relative_to(package) for path in package.rglob("*.pyc")}
    # The user of the image may not write there: each start would compile a module that is not compiled.
    assert {path.parent.parent / path.name.partition(".")[0] for path in compiled} == sources
    program = opt / "mauntic-jobs/bin/mauntic-jobs"
    for arguments in (["--version"], ["schedule", "next"], ["aggregate-hourly", "--help"]):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_everything_is_pinned_by_hash_and_the_user_is_nobody() -> None:
    build, final = _stages()
    installs = [rest for word, rest in build if word == "RUN" and "pip install" in rest]
    assert installs
    assert all("--require-hashes" in rest or "--no-index" in rest for rest in installs)
    assert ("USER", "mauntic") in final
    assert [rest for word, rest in final if word == "RUN" and "pip" in rest] == []
    assert not re.search(r"^(ENV|ARG).*(URL|KEY|TOKEN|PASSWORD)", _DOCKERFILE, re.MULTILINE)


def test_the_standard_library_of_the_image_is_compiled() -> None:
    """That of the base image is not: docker-library/python#615."""
    _, final = _stages()
    version = re.match(r"python:(\d+\.\d+)-slim$", dict(final)["FROM"])
    assert version
    assert ("RUN", f"python -m compileall -q /usr/local/lib/python{version[1]}") in final


def test_the_build_context_holds_what_is_copied_and_little_else() -> None:
    let_in = {line[1:] for line in (_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name
        for stage in _stages()
        for word, rest in stage
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    }
    assert copied == let_in
