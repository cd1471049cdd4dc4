"""The numbered migrations, as they are shipped."""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

_FILE_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")


@dataclass(frozen=True)
class Migration:
    """One step of the schema. `checksum` is the SHA-256 of its text, in hexadecimal."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The fingerprint that the database keeps, to notice a migration that was edited after it was applied."""
        return sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.version:04} {self.name}"


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every migration, in order."""
    found = []
    for file in files(__package__).iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            found.append(Migration(int(match["version"]), match["name"], file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))
