"""The jobs and the settings about them."""

from collections.abc import Iterator

from mauntic_jobs.jobs.registry import broken_jobs, jobs
from mauntic_jobs.ops.doctor.check import Check, Site
from mauntic_jobs.ops.doctor.finding import Finding, error, ok

_AREA = "jobs"


def _registry(_site: Site) -> Iterator[Finding]:
    for name, reason in broken_jobs().items():
        yield error(f"{name} is left out, because it cannot be used: {reason}", "Repair or uninstall its package")
    if not broken_jobs():
        yield ok(f"all {len(jobs())} jobs can be used")


def _settings(site: Site) -> Iterator[Finding]:
    unknown = [name for name in site.settings.jobs if name not in jobs() and name not in broken_jobs()]
    if unknown:
        yield error(
            f"settings name jobs that there are none of: {', '.join(unknown)}", "Correct `jobs` in the settings"
        )
    else:
        yield ok("settings name jobs that there are")


def _port(site: Site) -> Iterator[Finding]:
    if site.settings.port is None:
        yield ok("commands that stay serve no /health", "Set PORT, so that they can be watched")
    else:
        yield ok(f"commands that stay serve /health on port {site.settings.port}")


CHECKS = (
    Check(_AREA, "registry", _registry),
    Check(_AREA, "settings", _settings),
    Check(_AREA, "port", _port),
)
