"""Directories and account of the embedded servers."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

from mauntic_jobs.errors import ConfigurationError

ACCOUNT = "nobody"
# Also what marks a directory as ours: nothing is ever deleted from one without it.
LOCK = "lock"


def server_account() -> tuple[int, int] | None:
    """Return the (uid, gid) the servers run as when root starts them, since Postgres refuses root; None for others."""
    uid = os.geteuid()
    try:
        account = pwd.getpwuid(uid) if uid else pwd.getpwnam(ACCOUNT)
    except KeyError:
        who = f"user id {uid}" if uid else f"'{ACCOUNT}', as which root would run it,"
        raise ConfigurationError(
            f"Postgres runs only as a user the system knows, and {who} has no account here: start as another user."
        ) from None
    return None if uid else (account.pw_uid, account.pw_gid)


def throwaway_base() -> Path:
    """Return the directory that throwaway servers make their own directory in."""
    base = Path(tempfile.gettempdir()).resolve()
    _require_entry(base, "TMPDIR")
    return base


def kept_path() -> Path:
    """Return the directory of the kept servers, which may not exist."""
    configured = os.environ.get("MAUNTIC_DEV_DIR")
    # Unlike a home directory this is open to the account that servers of root run as; require_ours makes it safe.
    default = f"/var/tmp/mauntic-jobs-{os.geteuid()}"  # noqa: S108 - see above
    return Path(configured).expanduser().absolute() if configured else Path(default)


def kept_directory() -> Path:
    """Return that directory, made when missing and refused when it is not safely ours."""
    path = kept_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    require_ours(path)
    mode = 0o700 if server_account() is None else 0o711
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)
    _require_entry(path, "MAUNTIC_DEV_DIR")
    (path / LOCK).touch(mode=0o600)
    return path


def require_ours(path: Path) -> None:
    """Raise ConfigurationError unless `path` is our user's directory, and either empty or made by us."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{path} is not a directory: remove it, or set MAUNTIC_DEV_DIR to another place.")
    if status.st_uid != os.geteuid():
        raise ConfigurationError(f"{path} belongs to another user: set MAUNTIC_DEV_DIR to a directory of your own.")
    # In this order: a process that makes the directory at the same time makes the lock file first.
    if any(path.iterdir()) and not (path / LOCK).exists():
        raise ConfigurationError(f"{path} holds other files: set MAUNTIC_DEV_DIR to a new or empty directory.")


def open_to_all(path: Path) -> bool:
    """Whether any account can read and enter or execute `path`."""
    wanted = stat.S_IROTH | stat.S_IXOTH
    return path.stat().st_mode & wanted == wanted and _enterable(path.parent)


def _require_entry(path: Path, variable: str) -> None:
    if server_account() is not None and not _enterable(path):
        raise ConfigurationError(
            f"As root, the servers run as '{ACCOUNT}', which cannot enter {path}: set {variable} to a place it can."
        )


def _enterable(path: Path) -> bool:
    path = path.resolve()
    return all(directory.stat().st_mode & stat.S_IXOTH for directory in (path, *path.parents))
