"""The daemon: puts the parts together, and waits for signals."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from exporter import __version__
from exporter.errors import ExporterError
from exporter.evaluate import evaluate_after
from exporter.observe.client import EngineClient
from exporter.observe.events import EventStream
from exporter.observe.files import FileObserver, dumps
from exporter.observe.host import EngineHost
from exporter.observe.observer import open_observer
from exporter.observe.tier import Tier
from exporter.parse import parse
from exporter.publish.exposition import render
from exporter.publish.state import Board, Published
from exporter.publish.web import create_app
from exporter.runtime.http import HttpServer, bind, shown
from exporter.runtime.refresh import Refresher
from exporter.runtime.schedule import Schedule
from exporter.runtime.tally import Tally
from exporter.runtime.watch import Hints, Watcher

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp

    from exporter.config import Config
    from exporter.publish.state import PollResult
    from exporter.runtime.refresh import Source

logger = logging.getLogger(__name__)

READY_INTERVALS: Final = 3
"""A good poll is recent for so many intervals."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LONGEST_TICK = 1.0
_TICKS_PER_INTERVAL = 4


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Poll and serve until SIGTERM or SIGINT; return the exit code: 0, or 1 where the HTTP server ended by itself.

    `reload` returns the configuration anew at SIGHUP, or raises ExporterError: the old one then stays in force.
    Raises ExporterError where there is nothing to begin with: an address that is none, or is taken.
    """
    # Blocked and waited for, signals interrupt nothing; threads inherit the mask, so it comes before all of them.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        target = _target(config)
        return Daemon(config, target, bind(config.listen_addresses), reload).run()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@dataclass(frozen=True, slots=True)
class Target:
    """What is looked at: an engine, or a file in its place. `timeout` is for one look, in seconds."""

    where: EngineHost | Path
    timeout: float
    tier: Tier
    netns: Path | None

    def source(self) -> Source:
        """Return where observations come from."""
        if isinstance(self.where, EngineHost):
            return open_observer(self.where, self.timeout, self.tier, self.netns)
        return FileObserver(self.where)

    def stream(self) -> EventStream | None:
        """Return the events of the engine; a file has none."""
        if isinstance(self.where, EngineHost):
            return EventStream(EngineClient(self.where, self.timeout))
        return None


class Daemon:
    """Everything that runs, and the loop of the main thread."""

    def __init__(
        self, config: Config, target: Target, sockets: Sequence[socket.socket], reload: Callable[[], Config]
    ) -> None:
        self._config = config
        self._target = target
        self._reload = reload
        self._tally = Tally(config.poll_interval)
        self._board = Board(render, Published.not_polled(datetime.now(UTC), self._tally.stats()))
        self._refresher = Refresher(
            target.source(), target.timeout, self._board, self._tally, parse=parse, evaluate=evaluate_after
        )
        self._schedule = Schedule(self._refresher.refresh, config.poll_interval, self._report_trouble)
        self._hints = Hints(self._refresher.refresh)
        self._watcher = self._new_watcher()
        self._server = HttpServer(sockets, self._new_app())
        for listener in sockets:
            logger.info("listening", extra={"address": shown(listener), "path": config.telemetry_path})

    def run(self) -> int:
        """Start, wait for the end, stop; return the exit code."""
        logger.info(
            "started",
            extra={"version": __version__, "source": self._target.where, "interval": self._config.poll_interval},
        )
        self._server.start()
        self._schedule.start()
        self._hints.start()
        if self._watcher:
            self._watcher.start()
        try:
            return self._wait()
        finally:
            self._stop()

    def _wait(self) -> int:
        while True:
            tick = min(_LONGEST_TICK, self._config.poll_interval / _TICKS_PER_INTERVAL)
            received = signal.sigtimedwait(_SIGNALS, tick)
            if received is None:
                self._schedule.check()
                self._refresher.check()
            elif received.si_signo == signal.SIGHUP:
                self._read_again()
            else:
                logger.info("stopping", extra={"signal": signal.Signals(received.si_signo).name})
                return 0
            if not self._server.alive:
                logger.error("the HTTP server has ended")
                return 1

    def _stop(self) -> None:
        if self._watcher:
            self._watcher.stop()
        self._hints.stop()
        self._refresher.stop()
        self._schedule.stop()
        self._server.stop()

    def _read_again(self) -> None:
        """Read the configuration again, and go on with what it says now."""
        try:
            config = self._reload()
            target = _target(config)
        except ExporterError as error:
            logger.error("the configuration stays as it was: %s", error)  # noqa: TRY400 - the message is complete
            self._tally.reloaded(succeeded=False)
            self._refresher.republish()
            return
        self._tally.reloaded(succeeded=True)
        self._follow(config, target)
        logger.info("configuration read again", extra={"source": target.where, "interval": config.poll_interval})

    def _follow(self, config: Config, target: Target) -> None:
        if config.listen_addresses != self._config.listen_addresses:
            logger.warning("a new listen address takes effect after a restart")
        interval_changed = config.poll_interval != self._config.poll_interval
        self._config = config
        self._tally.interval(config.poll_interval)
        self._server.app = self._new_app()
        if target != self._target:
            self._refresher.use(target.source(), target.timeout)
        if target != self._target or interval_changed:
            self._target = target
            self._exchange_watcher()
        self._schedule.change_interval(config.poll_interval)

    def _exchange_watcher(self) -> None:
        if self._watcher:
            self._watcher.stop()
        self._watcher = self._new_watcher()
        if self._watcher:
            self._watcher.start()

    def _new_watcher(self) -> Watcher | None:
        stream = self._target.stream()
        if stream is None:
            return None
        return Watcher(stream, self._hints.hint, self._tally, self._config.poll_interval)

    def _new_app(self) -> ASGIApp:
        config = self._config
        ready_within = READY_INTERVALS * config.poll_interval
        return create_app(self._board, dumps=dumps, ready_within=ready_within, telemetry_path=config.telemetry_path)

    def _report_trouble(self, kind: PollResult) -> None:
        self._tally.polled(kind)
        logger.warning("a poll was not run as planned: %s", kind)


def _target(config: Config) -> Target:
    where = config.snapshot or EngineHost.resolve(config.docker_host, os.environ)
    return Target(where, config.poll_timeout, Tier(config.evidence_max), config.host_netns)
