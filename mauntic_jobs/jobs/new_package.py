"""A new package with one job, made from the example in `example_package/`."""

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from keyword import iskeyword

from mauntic_jobs.errors import UsageError
from mauntic_jobs.jobs.plugins import NAME, RESERVED
from mauntic_jobs.jobs.registry import jobs

# The name of the example's job, as it stands in texts and in names of Python.
_EXAMPLE = "mark-inactive"
# Without this ending, tools would take the example for modules of this package.
_ENDING = ".txt"


def new_package(name: str) -> Mapping[str, str]:
    """Return the text of each file of a package with the job `name`, by its path.

    Raises UsageError if no job can have this name, or one has it.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid name of a job. Use lower-case words with hyphens between them, like send-digest."
        )
    if iskeyword(name):
        raise UsageError(f"{name} is a keyword of Python. Choose another name, like send-digest.")
    if name in RESERVED or name in jobs():
        raise UsageError(f"mauntic-jobs has a command {name} already. Choose another name.")
    return {_renamed(path, name): _renamed(text, name) for path, text in _files(files(__package__) / "example_package")}


def _files(directory: Traversable, path: str = "") -> list[tuple[str, str]]:
    found = []
    for each in sorted(directory.iterdir(), key=lambda each: each.name):
        if each.is_dir():
            found += _files(each, f"{path}{each.name}/")
        elif each.name.endswith(_ENDING):
            found.append((path + each.name.removesuffix(_ENDING), each.read_text("utf-8")))
    return found


def _renamed(text: str, name: str) -> str:
    return text.replace(_EXAMPLE, name).replace(_EXAMPLE.replace("-", "_"), name.replace("-", "_"))
