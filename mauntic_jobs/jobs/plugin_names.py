"""Names of the jobs of other packages, read without importing any of them."""

from importlib.metadata import entry_points

GROUP = "mauntic_jobs.jobs"


def plugin_names() -> frozenset[str]:
    """Return the names of their entry points; whether the jobs can be used is not known yet."""
    return frozenset(each.name for each in entry_points(group=GROUP))
