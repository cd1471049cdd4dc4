"""Places where tests can make the process die. In the product nothing is hooked in, and nothing happens."""

from collections.abc import Callable

# By the name of the place.
hooks: dict[str, Callable[[], None]] = {}


def reach(name: str) -> None:
    """Call what a test has hooked in at this place."""
    hook = hooks.get(name)
    if hook is not None:
        hook()
