"""An organization of each case's own, and a sink for its mail."""

from tests.delivery.conftest import sink, world

__all__ = ["sink", "world"]
