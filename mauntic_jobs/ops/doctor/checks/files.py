"""Files with secrets: whether every user of the machine may read them."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from mauntic_jobs.ops.doctor.check import Check, Site
from mauntic_jobs.ops.doctor.finding import Finding, ok, several, warning
from mauntic_jobs.settings.config_files import CONFIG_FILES

# Settings as they stand in TOML, in a crontab and in a shell's file; addresses count if they hold a password.
_SETTING = re.compile(r"^[ \t]*(?:export[ \t]+)?(?P<name>\w+)[ \t]*=[ \t]*[\"']?(?P<value>[^\s\"'#]+)", re.MULTILINE)
_SECRETS = ("encryption_key", "secret", "mauntic_alerts", "mauntic_alert_channels")
_PASSWORD = re.compile(r"://[^/@\s]*:[^@\s]+@")
_MAX_CHARACTERS = 100_000


def _look(site: Site) -> Iterator[Finding]:
    named = os.environ.get("MAUNTIC_CONFIG")
    candidates = [*([Path(named)] if named else []), *CONFIG_FILES, site.crontab or Path("crontab"), Path(".env")]
    found = [finding for file in dict.fromkeys(candidates) for finding in _file(file)]
    yield from found or [ok("no file with secrets can be read by every user of this machine")]


def _file(file: Path) -> Iterator[Finding]:
    try:
        mode = file.stat().st_mode
        text = file.read_text("utf-8", errors="replace")[:_MAX_CHARACTERS] if stat.S_ISREG(mode) else ""
    except OSError:  # it is not there, or not for this user
        return
    names = list(dict.fromkeys(match["name"] for match in _SETTING.finditer(text) if _is_secret(match)))
    if names and mode & stat.S_IROTH:
        yield warning(
            f"every user of this machine can read {file} (mode {stat.S_IMODE(mode):04o}), which holds {several(names)}",
            f"chmod o= {file}",
        )


def _is_secret(match: re.Match[str]) -> bool:
    return match["name"].lower() in _SECRETS or _PASSWORD.search(match["value"]) is not None


CHECKS = (Check("files", "secrets", _look),)
