"""The published state and how one follows from another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from exporter.publish.state import Board, Body, PollStats, Published
from tests.builders import TAKEN_AT, observation, published, report, snapshot, stats

LATER = TAKEN_AT + timedelta(minutes=1)
LATEST = TAKEN_AT + timedelta(minutes=2)


def test_nothing_is_up_before_the_first_poll() -> None:
    """Before the first poll there is no report, and the state says that nobody has looked yet."""
    state = Published.not_polled(TAKEN_AT)
    assert not state.up
    assert state.report is None
    assert state.last_error == "the engine has not been polled yet"


def test_a_failure_withdraws_the_verdicts() -> None:
    """After a failed poll nothing of the earlier report is left, but when it was is remembered."""
    state = published().failed(LATER, "connection refused", stats())
    assert (state.report, state.snapshot, state.observation) == (None, None, None)
    assert (state.up, state.last_error, state.last_success) == (False, "connection refused", TAKEN_AT)


def test_since_is_when_the_state_changed() -> None:
    """Further polls with the same outcome keep the time at which the engine was found up or down."""
    good = (observation(), snapshot(), report(), stats())
    up = Published.not_polled(TAKEN_AT).succeeded(LATER, *good)
    assert up.succeeded(LATEST, *good).since == LATER
    down = up.failed(LATEST, "gone", stats())
    assert down.since == LATEST
    assert down.failed(LATEST + timedelta(hours=1), "still gone", stats()).since == LATEST


def test_a_first_poll_that_fails_is_when_the_engine_was_found_down() -> None:
    """The time before the first poll does not count as down."""
    assert Published.not_polled(TAKEN_AT).failed(LATER, "gone", stats()).since == LATER


def test_newer_statistics_change_nothing_else() -> None:
    """Counting an event between two polls leaves the verdicts as they are."""
    before = published()
    after = before.counted(PollStats(event_stream_up=True))
    assert after.report is before.report
    assert after.stats.event_stream_up


def test_the_board_renders_what_it_publishes() -> None:
    """Each published state carries the bodies that were rendered from it, the first one too."""
    board = Board(lambda state: {"x": Body(state.last_error.encode(), b"")}, Published.not_polled(TAKEN_AT))
    assert board.current.bodies["x"].plain == b"the engine has not been polled yet"
    board.publish(published().failed(LATER, "gone", stats()))
    assert board.current.bodies["x"].plain == b"gone"


def test_a_state_that_cannot_be_rendered_is_not_published() -> None:
    """When rendering raises, readers keep the state before."""

    def render(state: Published) -> dict[str, Body]:
        if state.up:
            raise ValueError("cannot render")
        return {}

    board = Board(render, Published.not_polled(TAKEN_AT))
    before = board.current
    with pytest.raises(ValueError, match="cannot render"):
        board.publish(published())
    assert board.current is before
