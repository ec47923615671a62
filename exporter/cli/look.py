"""One look at an engine or at a file, and what follows from it.

The engine's client takes longer to load than a file takes to read, so only those who ask an engine load it.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import os
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exporter.cli.terminal import STANDARD, progress
from exporter.errors import ConfigError
from exporter.evaluate import evaluate
from exporter.model.policy import NO_STANDARDS, Standards
from exporter.observe import files
from exporter.parse import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.config import Config
    from exporter.model.observation import Observation
    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot
    from exporter.observe.observer import Observer


class Answer(NamedTuple):
    """What an observation means."""

    snapshot: Snapshot
    report: Report


def standards(config: Config) -> Standards:
    """Return what the host is held to. Raises ConfigError where the policy file is wrong."""
    policy = None
    if config.policy_file is not None:
        from exporter import policyfile

        policy = policyfile.read(config.policy_file)
    return Standards(config.tenant_label, policy, config.trusted_tenants)


def observe(config: Config, held_to: Standards = NO_STANDARDS) -> Observation:
    """Return what the file holds, or what the engine says now, with the labels that the standards ask for."""
    return read(config.snapshot) if config.snapshot else _ask(config, held_to)


def read(path: Path) -> Observation:
    """Return the observation in a file or in standard input."""
    if path == Path(STANDARD):
        return files.loads(sys.stdin.buffer.read(), "standard input")
    return files.load(path)


def _ask(config: Config, held_to: Standards) -> Observation:
    with engine(config, "asking", held_to) as observer:
        return observer.observe()


@contextmanager
def engine(config: Config, doing: str, held_to: Standards = NO_STANDARDS) -> Iterator[Observer]:
    """Give what looks at the engine, and say on a terminal what is being done to it."""
    from exporter.observe.host import EngineHost
    from exporter.observe.observer import open_observer
    from exporter.observe.tier import DEFAULT, Tier

    host = EngineHost.resolve(config.docker_host, os.environ)
    tier = Tier(config.evidence_max or DEFAULT)
    observer = open_observer(host, config.poll_timeout, tier, config.host_netns, lambda: held_to.labels)
    with closing(observer), progress(f"{doing} {host}"):
        yield observer


def needs_sandboxes(config: Config, what: str) -> None:
    """See that there is an engine with all evidence to use. Raises ConfigError with the name of what needs it."""
    if config.snapshot:
        raise ConfigError(f"{what} needs an engine to send packets through, not --snapshot")
    if config.evidence_max not in (None, "sandboxes"):
        raise ConfigError(
            f"{what} needs --evidence.max=sandboxes, not {config.evidence_max}: packets are held against "
            "what the kernel enforces, inside the sandboxes too"
        )


def answer(observation: Observation, held_to: Standards = NO_STANDARDS) -> Answer:
    """Return what an observation means."""
    with progress("evaluating"):
        snapshot = parse(observation)
        return Answer(snapshot, evaluate(snapshot, held_to))
