"""Files of numbers for node-exporter's textfile collector, which never sees half of one."""

import os
from pathlib import Path


def write_textfile(directory: Path, name: str, text: bytes) -> None:
    """Write `<name>.prom` as a whole, readable by all. Raises OSError."""
    # The collector reads what ends with .prom, and nothing else.
    unfinished = directory / f".{name}.{os.getpid()}"
    try:
        unfinished.write_bytes(text)
        unfinished.chmod(0o644)
        unfinished.replace(directory / f"{name}.prom")
    finally:
        unfinished.unlink(missing_ok=True)
