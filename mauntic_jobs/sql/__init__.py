"""Named SQL statements, kept in the .sql files beside this one.

Each statement is introduced by a line `-- name -- what it does` and takes named parameters only.
"""

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

# The description may go on in further comment lines.
_HEADING = re.compile(r"^-- (?P<name>\w+) -- .+$(?:\n--.*$)*", re.MULTILINE)


@cache
def statements(file: str) -> MappingProxyType[str, bytes]:
    """Return the statements of `<file>.sql` by name."""
    text = (files(__package__) / f"{file}.sql").read_text("utf-8")
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return MappingProxyType(
        {
            heading["name"]: text[heading.end() : end].strip().encode()
            for heading, end in zip(headings, ends, strict=True)
        }
    )
