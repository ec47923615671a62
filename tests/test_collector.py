"""The garbage collector is left as it was found."""

from __future__ import annotations

import gc

import pytest

from exporter.collector import paused


def test_collection_goes_on_after_a_pause_and_after_an_error() -> None:
    """Whatever happens during a pause, the collector works again."""
    with paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="broken"), paused():
        raise ValueError("broken")
    assert gc.isenabled()


def test_a_pause_within_a_pause_ends_nothing() -> None:
    """The inner of two pauses leaves the collector to the outer one."""
    with paused():
        with paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
