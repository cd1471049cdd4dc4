"""Length of the warm-up of a sending domain, and the keys and days of its counters in Redis."""

from datetime import date, timedelta
from uuid import UUID

# Warm-up ends with the 30th day, counted from the creation of the domain.
WARMUP = timedelta(days=30)


def keys(organization: UUID | str, domain: str, *, in_cluster: bool = False) -> tuple[str, str]:
    """Return the keys of a domain's counter and of its account of days: KEYS of the `warmup_` scripts.

    The counter's name is the platform's. In a cluster the account's name holds it as a hash tag, so that one node has
    both; for this the domain must not have braces.
    """
    name = f"{organization}:{domain.lower()}"
    counter = f"warmup:daily:{name}"
    return counter, f"warmup:days:{{{counter}}}" if in_cluster else f"warmup:days:{name}"


def is_countable(domain: str, *, in_cluster: bool) -> bool:
    """Return whether a domain has keys; what tenants call a domain may be none, and have braces."""
    return not (in_cluster and {"{", "}"} & set(domain))


def dates(day: date) -> tuple[str, str]:
    """Return the UTC day and the one after it as the `warmup_` scripts take them: their first ARGV."""
    return day.isoformat(), (day + timedelta(days=1)).isoformat()
