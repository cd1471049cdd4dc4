"""The world of the delivery tests: an organization with its queue and a sink for its mail."""

from tests.delivery.conftest import sink, world

__all__ = ["sink", "world"]
