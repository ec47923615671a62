"""The daemon: puts the parts together, and waits for signals."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from exporter import __version__, policyfile
from exporter.errors import ExporterError
from exporter.evaluate import evaluate_after
from exporter.model.policy import Standards
from exporter.observe.files import dumps
from exporter.parse import Memory, parse
from exporter.publish.exposition import render
from exporter.publish.state import Board, Published
from exporter.publish.web import create_app
from exporter.runtime.front import FrontFile
from exporter.runtime.http import HttpServer
from exporter.runtime.listen import bind, inherited, shown
from exporter.runtime.notify import Manager
from exporter.runtime.probing import Probing
from exporter.runtime.refresh import Refresher
from exporter.runtime.schedule import Schedule
from exporter.runtime.tally import Tally
from exporter.runtime.target import Target
from exporter.runtime.watch import Hints, Watcher

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp

    from exporter.config import Config
    from exporter.evaluate import Evaluated
    from exporter.model.policy import Policy
    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot
    from exporter.observe.probe import Prober

logger = logging.getLogger(__name__)

READY_INTERVALS: Final = 3
"""A good poll is recent for so many intervals."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LONGEST_TICK = 1.0
_TICKS_PER_INTERVAL = 4


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Poll and serve until SIGTERM or SIGINT; return the exit code: 0, or 1 where the HTTP server ended by itself.

    `reload` returns the configuration anew at SIGHUP, or raises ExporterError: the old one then stays in force.
    Raises ExporterError where there is nothing to begin with: an address that is none, or is taken, a wrong policy.
    """
    # Blocked and waited for, signals interrupt nothing; threads inherit the mask, so it comes before all of them.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        target, front_file = Target.of(config, os.environ), FrontFile(config.web_config_file)
        standards = Standards(config.tenant_label, _policy(config), config.trusted_tenants)
        manager = Manager.of(os.environ)
        return Daemon(config, target, front_file, standards, _sockets(config), reload, manager).run()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Daemon:
    """Everything that runs, and the loop of the main thread."""

    def __init__(
        self,
        config: Config,
        target: Target,
        front_file: FrontFile,
        standards: Standards,
        sockets: Sequence[socket.socket],
        reload: Callable[[], Config],
        manager: Manager,
    ) -> None:
        self._manager = manager
        self._announced = False
        self._config = config
        self._target = target
        self._front_file = front_file
        self._standards = standards
        self._reload = reload
        self._tally = Tally(config.poll_interval, config.pair_series, target.wanted)
        self._tally.front_read(succeeded=True if front_file.path else None)
        self._tally.policy_read(succeeded=True if standards.policy else None)
        self._board = Board(render, Published.not_polled(datetime.now(UTC), self._tally.stats()))
        self._refresher = Refresher(
            target.source(self._labels),
            target.timeout,
            self._board,
            self._tally,
            parse=partial(parse, memory=Memory()),
            evaluate=self._evaluate,
        )
        self._probing = Probing(self._board, self._tally, self._refresher, random.SystemRandom())
        self._probing.use(_prober(config, target), config.probe_sample)
        self._schedule = Schedule(self._poll, config.poll_interval, self._refresher.missed)
        self._hints = Hints(self._refresher.refresh)
        self._watcher = self._new_watcher()
        front = front_file.front
        self._server = HttpServer(sockets, self._new_app(), front, config.web_max_requests)
        for listener in sockets:
            said = {"address": shown(listener), "path": config.telemetry_path, "tls": front.tls is not None}
            logger.info("listening", extra=said)

    def run(self) -> int:
        """Start, wait for the end, stop; return the exit code."""
        logger.info(
            "started",
            extra={"version": __version__, "source": self._target.where, "interval": self._config.poll_interval},
        )
        self._server.start()
        self._schedule.start()
        self._hints.start()
        self._probing.start()
        if self._watcher:
            self._watcher.start()
        try:
            return self._wait()
        finally:
            self._stop()

    def _poll(self) -> None:
        self._refresher.refresh()
        self._probing.polled()

    def _wait(self) -> int:
        while True:
            tick = min(_LONGEST_TICK, self._config.poll_interval / _TICKS_PER_INTERVAL)
            received = _next_signal(tick)
            if received is None:
                with contextlib.suppress(MemoryError):
                    self._tick()
            elif received is signal.SIGHUP:
                self._manager.reloading()
                self._read_again()
                self._announced = False
            else:
                logger.info("stopping", extra={"signal": received.name})
                return 0
            if not self._server.alive:
                logger.error("the HTTP server has ended")
                return 1

    def _tick(self) -> None:
        self._refresher.check()
        self._refresher.expire(self._patience)
        self._schedule.check()
        self._check_front()
        self._tell_manager()

    @property
    def _patience(self) -> float:
        """Seconds within which a refresh ends where all is well."""
        return READY_INTERVALS * self._config.poll_interval + self._target.timeout

    def _tell_manager(self) -> None:
        """Say when there is something to see, and that all is well: polls end, however, and the server lives."""
        if not self._announced and self._board.current.polled:
            self._announced = True
            self._manager.ready()
        if self._server.alive and self._refresher.idle() < self._patience:
            self._manager.alive()

    def _stop(self) -> None:
        self._manager.stopping()
        if self._watcher:
            self._watcher.stop()
        self._hints.stop()
        self._probing.stop()
        self._refresher.stop()
        self._schedule.stop()
        self._server.stop()

    def _read_again(self) -> None:
        """Read the configuration again, and go on with what it says now."""
        try:
            config = self._reload()
            target = Target.of(config, os.environ)
        except ExporterError as error:
            logger.error("the configuration stays as it was: %s", error)  # noqa: TRY400 - the message is complete
            self._tally.reloaded(succeeded=False)
            self._refresher.republish()
            return
        self._tally.reloaded(succeeded=True)
        self._front_again(config)
        self._standards = Standards(config.tenant_label, self._policy_again(config), config.trusted_tenants)
        self._follow(config, target)
        self._refresher.republish()
        logger.info("configuration read again", extra={"source": target.where, "interval": config.poll_interval})

    def _check_front(self) -> None:
        """Read the web configuration again if one of its files has changed."""
        try:
            if not self._front_file.changed():
                return
        except ExporterError as error:
            self._front_stays(error)
        else:
            self._use_front()
            logger.info("web configuration read again", extra={"file": self._front_file.path})
        self._refresher.republish()

    def _front_again(self, config: Config) -> None:
        """Read the web configuration that is named now. Where it is wrong, what was in force stays until it is not."""
        try:
            self._front_file.follow(config.web_config_file)
        except ExporterError as error:
            self._front_stays(error)
        else:
            self._use_front()

    def _front_stays(self, error: ExporterError) -> None:
        logger.error("the web configuration stays as it was: %s", error)
        self._tally.front_read(succeeded=False)

    def _use_front(self) -> None:
        self._server.door.front = self._front_file.front
        self._tally.front_read(succeeded=True if self._front_file.path else None)

    def _policy_again(self, config: Config) -> Policy | None:
        """Return the policy as its file has it now, or the one before where the file is wrong."""
        try:
            policy = _policy(config)
        except ExporterError as error:
            logger.error("the policy stays as it was: %s", error)  # noqa: TRY400 - the message is complete
            self._tally.policy_read(succeeded=False)
            return self._standards.policy
        self._tally.policy_read(succeeded=True if policy else None)
        return policy

    def _labels(self) -> tuple[str, ...]:
        return self._standards.labels

    def _evaluate(self, snapshot: Snapshot, before: Evaluated | None) -> tuple[Report, Evaluated]:
        return evaluate_after(snapshot, before, self._standards)

    def _follow(self, config: Config, target: Target) -> None:
        if _places(config) != _places(self._config):
            logger.warning("a new listen address takes effect after a restart")
        interval_changed = config.poll_interval != self._config.poll_interval
        self._config = config
        self._tally.follow(config.poll_interval, config.pair_series, target.wanted)
        self._server.door.app = self._new_app()
        self._server.door.max_requests = config.web_max_requests
        if target != self._target:
            self._refresher.use(target.source(self._labels), target.timeout)
        self._probing.use(_prober(config, target), config.probe_sample)
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


def _policy(config: Config) -> Policy | None:
    return policyfile.read(config.policy_file) if config.policy_file else None


def _prober(config: Config, target: Target) -> Prober | None:
    if not config.probe_sample:
        return None
    from exporter.observe.probe import Prober  # noqa: PLC0415 - those who look at sandboxes load netlink's messages

    return Prober(target.netns)


def _next_signal(seconds: float) -> signal.Signals | None:
    """Return the signal that comes within so many seconds, if one does.

    CPython returns a siginfo that nobody filled in where the process was stopped (SIGSTOP, `docker pause`) for longer.
    """
    received = signal.sigtimedwait(_SIGNALS, seconds)
    return next((number for number in _SIGNALS if received and number == received.si_signo), None)


def _places(config: Config) -> tuple[bool, tuple[str, ...]]:
    return config.web_systemd_socket, config.listen_addresses


def _sockets(config: Config) -> list[socket.socket]:
    return inherited(os.environ, os.getpid()) if config.web_systemd_socket else bind(config.listen_addresses)
