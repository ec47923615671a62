"""Events that make a refresh come sooner."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from exporter.observe.client import EngineClient
from exporter.observe.events import EventStream
from exporter.observe.host import EngineHost
from exporter.runtime.tally import Tally
from exporter.runtime.watch import APART, QUIET, SETTLED, Hints, Watcher
from tests.fake_engine import response, says
from tests.runtime.test_schedule import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fake_engine import FakeEngine


class Refreshes:
    """When the refreshes were."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.hints = Hints(lambda: self.times.append(time.monotonic()))


@pytest.fixture
def refreshes() -> Iterator[Refreshes]:
    """Give refreshes that only note the time."""
    refreshes = Refreshes()
    refreshes.hints.start()
    yield refreshes
    refreshes.hints.stop()


@pytest.fixture
def tally() -> Tally:
    """Give counters at zero."""
    return Tally(15.0)


@pytest.fixture
def watcher(engine: FakeEngine, refreshes: Refreshes, tally: Tally) -> Iterator[Watcher]:
    """Give a watcher of the engine."""
    stream = EventStream(EngineClient(EngineHost(engine.url), 1.0))
    watcher = Watcher(stream, refreshes.hints.hint, tally, 0.4)
    watcher.start()
    yield watcher
    watcher.stop()
    engine.events.put(None)


def test_a_hint_leads_to_a_refresh_soon_and_to_another_when_things_have_settled(refreshes: Refreshes) -> None:
    """The first refresh comes within a tenth of a second, a second one checks the engine's afterthoughts."""
    began = time.monotonic()
    refreshes.hints.hint()
    time.sleep(QUIET + APART + SETTLED + 0.4)
    first, second = refreshes.times
    assert QUIET <= first - began < QUIET + 0.1
    assert second - first >= SETTLED


def test_a_storm_of_hints_makes_few_refreshes(refreshes: Refreshes) -> None:
    """Thousands of events within a second lead to at most one refresh per quarter of a second."""
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        refreshes.hints.hint()
        time.sleep(0.0002)
    time.sleep(APART + QUIET)
    gaps = [later - earlier for earlier, later in zip(refreshes.times, refreshes.times[1:], strict=False)]
    assert 3 <= len(refreshes.times) <= 6
    assert min(gaps) >= APART - 0.01


def test_a_hint_during_a_refresh_is_not_lost() -> None:
    """What happens while a refresh is under way is looked at by the next one."""
    began, release, count = threading.Event(), threading.Event(), [0]

    def refresh() -> None:
        count[0] += 1
        began.set()
        release.wait(5)

    hints = Hints(refresh)
    hints.start()
    hints.hint()
    assert began.wait(1)
    hints.hint()
    release.set()
    wait_until(lambda: count[0] == 2, within=QUIET + APART + 0.2)
    hints.stop()


def test_opening_the_stream_is_a_hint(watcher: Watcher, refreshes: Refreshes, tally: Tally) -> None:  # noqa: ARG001
    """What happened before the stream was open is found by a look right after."""
    wait_until(lambda: tally.stats().event_stream_up)
    wait_until(lambda: refreshes.times)


def test_events_are_counted_and_lead_to_a_refresh(
    engine: FakeEngine, watcher: Watcher, refreshes: Refreshes, tally: Tally  # noqa: ARG001
) -> None:  # fmt: skip
    """A started container makes a look come within a tenth of a second plus the pause that storms are given."""
    wait_until(lambda: len(refreshes.times) == 2)
    time.sleep(APART)
    began = time.monotonic()
    engine.emit("container", "start")
    engine.emit("network", "connect")
    wait_until(lambda: len(refreshes.times) == 3)
    assert refreshes.times[2] - began < 0.2
    assert tally.stats().events_total == {"container": 1, "network": 1}


def test_the_end_of_the_stream_means_looking_and_connecting_again(
    engine: FakeEngine, watcher: Watcher, refreshes: Refreshes, tally: Tally  # noqa: ARG001
) -> None:  # fmt: skip
    """After a gap there is a look at once, and one more when events arrive again."""
    wait_until(lambda: len(refreshes.times) == 2)
    engine.events.put(None)
    wait_until(lambda: engine.paths.count("/events") == 2)
    wait_until(lambda: len(refreshes.times) >= 3)
    wait_until(lambda: tally.stats().event_stream_up)


def test_a_restarted_engine_is_listened_to_again(
    engine: FakeEngine, watcher: Watcher, refreshes: Refreshes, tally: Tally  # noqa: ARG001
) -> None:  # fmt: skip
    """While the engine is gone the stream counts as down, and it comes back by itself."""
    wait_until(lambda: tally.stats().event_stream_up)
    engine.stop()
    engine.events.put(None)
    wait_until(lambda: not tally.stats().event_stream_up)
    engine.start()
    wait_until(lambda: tally.stats().event_stream_up)


@pytest.mark.parametrize("trouble", ["refused", "broken", "garbage", "ends at once"])
def test_a_stream_that_does_not_work_is_not_asked_for_in_a_hurry(
    engine: FakeEngine, refreshes: Refreshes, tally: Tally, trouble: str
) -> None:
    """Attempts become rarer up to the interval between polls, whether the stream fails or only breaks at once."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    engine.answers["/events"] = {
        "refused": lambda connection: connection.sendall(response({}, "403 Forbidden")),
        "broken": says(b""),
        "garbage": says(head + b"4\r\nxxx\n\r\n"),
        "ends at once": says(head + b"0\r\n\r\n"),
    }[trouble]
    watcher = Watcher(
        EventStream(EngineClient(EngineHost(engine.url), 1.0)), refreshes.hints.hint, tally, longest_pause=0.4
    )
    watcher.start()
    time.sleep(2.0)
    watcher.stop()
    assert 4 <= engine.paths.count("/events") <= 8
    if trouble in {"refused", "broken"}:
        assert refreshes.times == [], "nothing is known to have changed"


def test_a_watcher_stops_at_once(engine: FakeEngine, watcher: Watcher, tally: Tally) -> None:  # noqa: ARG001
    """Waiting for events does not delay the end."""
    wait_until(lambda: tally.stats().event_stream_up)
    watcher.stop()
    wait_until(lambda: not any(thread.name == "events" for thread in threading.enumerate()), within=1.0)
