"""One look at an engine or at a file, and what follows from it.

The engine's client takes longer to load than a file takes to read, so only those who ask an engine load it.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.cli.terminal import progress
from exporter.evaluate import evaluate
from exporter.model.policy import NO_STANDARDS, Standards
from exporter.observe import files
from exporter.parse import parse

if TYPE_CHECKING:
    from exporter.config import Config
    from exporter.model.observation import Observation
    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot


STANDARD: Final = Path("-")
"""Names standard input or output where a file is expected."""


class Answer(NamedTuple):
    """What an observation means."""

    snapshot: Snapshot
    report: Report


def standards(config: Config) -> Standards:
    """Return what the host is held to. Raises ConfigError where the policy file is wrong."""
    if config.policy_file is None:
        return Standards(config.tenant_label)
    from exporter import policyfile

    return Standards(config.tenant_label, policyfile.read(config.policy_file))


def observe(config: Config, held_to: Standards = NO_STANDARDS) -> Observation:
    """Return what the file holds, or what the engine says now, with the labels that the standards ask for."""
    return read(config.snapshot) if config.snapshot else _ask(config, held_to)


def read(path: Path) -> Observation:
    """Return the observation in a file or in standard input."""
    if path == STANDARD:
        return files.loads(sys.stdin.buffer.read(), "standard input")
    return files.load(path)


def _ask(config: Config, held_to: Standards) -> Observation:
    from exporter.observe.host import EngineHost
    from exporter.observe.observer import open_observer
    from exporter.observe.tier import Tier

    host = EngineHost.resolve(config.docker_host, os.environ)
    tier = Tier(config.evidence_max)
    observer = open_observer(host, config.poll_timeout, tier, config.host_netns, lambda: held_to.labels)
    with closing(observer), progress(f"asking {host}"):
        return observer.observe()


def answer(observation: Observation, held_to: Standards = NO_STANDARDS) -> Answer:
    """Return what an observation means."""
    with progress("evaluating"):
        snapshot = parse(observation)
        return Answer(snapshot, evaluate(snapshot, held_to))
