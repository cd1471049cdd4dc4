"""Program itself: whether the modules that it imports are compiled."""

import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from mauntic_jobs.ops.doctor.check import Check, Site
from mauntic_jobs.ops.doctor.finding import Finding, ok, warning

# A few modules, such as those of a job of one's own, cost little.
_MAX_SHARE = 0.1


def _look(_site: Site) -> Iterator[Finding]:
    files = dict(found for module in list(sys.modules.values()) if (found := _files(module)) is not None)
    sources = [source for source, compiled in files.items() if not compiled.exists()]
    if len(sources) <= len(files) * _MAX_SHARE:
        yield ok("the program's modules are compiled")
        return
    folders = " ".join(sorted({str(_folder(source)) for source in sources}))
    yield warning(
        f"each start of the program compiles {len(sources)} of {len(files)} modules, because the result is not kept",
        f"As the user who installed it: {sys.executable} -m compileall -q {folders}",
    )


def _files(module: ModuleType) -> tuple[Path, Path] | None:
    """Return the source of a module and where it is looked for compiled; None for what is not made of a source."""
    spec = getattr(module, "__spec__", None)
    if spec is None or type(spec.loader) is not SourceFileLoader or not spec.origin or not spec.cached:
        return None
    return Path(spec.origin), Path(spec.cached)


def _folder(source: Path) -> Path:
    """Return the folder on the path of modules in which a source is."""
    folders = [Path(folder) for folder in sys.path if folder and source.is_relative_to(folder)]
    return max(folders, key=lambda folder: len(folder.parts), default=source.parent)


CHECKS = (Check("program", "compiled", _look),)
