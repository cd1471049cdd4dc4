"""Words for figures in sentences."""


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `1,234 rows`; `nouns` is the plural where it is not the noun with an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {nouns or noun + 's'}"


def counted(count: int, counter: str) -> str:
    """Return a counter as text: `1 day`, `12 unchanged`."""
    return plural(count, counter.removesuffix("s")) if counter.endswith("s") else f"{count:,} {counter}"
