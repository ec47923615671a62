"""An engine that records what it is asked."""

from tests.runtime.conftest import engine

__all__ = ["engine"]
