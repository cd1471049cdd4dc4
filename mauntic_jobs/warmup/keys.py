"""Length of the warm-up of a sending domain, and the keys and days of its counters in Redis."""

from datetime import date, timedelta
from uuid import UUID

# Warm-up ends with the 30th day, counted from the creation of the domain.
WARMUP = timedelta(days=30)


def keys(organization: UUID | str, domain: str) -> tuple[str, str]:
    """Return the keys of a domain's counter and of its account of days: KEYS of the `warmup_` scripts."""
    name = f"{organization}:{domain.lower()}"
    return f"warmup:daily:{name}", f"warmup:days:{name}"


def dates(day: date) -> tuple[str, str]:
    """Return the UTC day and the one after it as the `warmup_` scripts take them: their first ARGV."""
    return day.isoformat(), (day + timedelta(days=1)).isoformat()
