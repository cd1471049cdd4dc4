"""Dead letters as JSON Lines, in a file that is either whole or not there."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.dead_letters.show import summary
from mauntic_jobs.redaction.printable import json_text


def export(letters: Iterable[DeadLetter], file: IO[str], *, reveal: bool = False) -> int:
    """Write a line of JSON for each letter, masked unless `reveal`, and return how many there were."""
    count = 0
    for letter in letters:
        file.write(json_text(summary(letter, reveal=reveal)) + "\n")
        count += 1
    return count


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """Yield a file that takes its place when the body is done, readable by its owner only. Raises UsageError."""
    try:
        with NamedTemporaryFile("w", encoding="utf-8", errors="replace", dir=path.parent, delete=False) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}.") from None
