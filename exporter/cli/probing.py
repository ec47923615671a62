"""Probes of one pair: a look, packets, another look."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from exporter.cli import look
from exporter.errors import ProbeError, UnknownContainer
from exporter.evaluate.explain import find
from exporter.evaluate.probes import Planner, lacking
from exporter.model.addresses import is_link_local
from exporter.model.probe import PairProbed, ProbeResult
from exporter.observe.probe import Prober
from exporter.runtime.probing import put_to_the_test

if TYPE_CHECKING:
    from exporter.config import Config
    from exporter.model.explanation import Question

_DISAGREED: Final = 1
_UNDECIDED: Final = 2


def probe(config: Config, source: str, destination: str, asked: Question) -> PairProbed:
    """Return what packets say about a pair, given by names or beginnings of ids.

    Raises UnknownContainer, and ProbeError where no packet can be sent at all.
    """
    with look.engine(config, "probing") as observer:
        snapshot, report = look.answer(observer.observe())
        first, second = find(report, source), find(report, destination)
        if first is second:
            raise UnknownContainer(f"{source!r} and {destination!r} are the same container: a pair needs two")
        why = lacking(report)
        if why or snapshot.kernel is None:
            raise ProbeError(f"cannot probe: {why}")
        planner = Planner(snapshot, snapshot.kernel, report, random.SystemRandom())
        probes = planner.about(first, second, asked)
        if not probes and asked.address is not None and is_link_local(int(asked.address)):
            raise ProbeError(f"cannot probe: {asked.address} is a link-local address, to which no packets are sent")
        if not probes:
            raise ProbeError(
                f"cannot probe: {asked.address or 'what was asked about'} is no address of {second.name} or of the "
                "engine's host, and packets are sent nowhere else"
            )
        probed = put_to_the_test(
            probes, planner.ground, Prober(config.host_netns), (snapshot, report),
            lambda: look.answer(observer.observe()).report,
        )  # fmt: skip
    return PairProbed(first, second, report.pair(first, second).verdict, tuple(probed))


def exit_code(answer: PairProbed) -> int:
    """Return 1 where a packet disagrees, 2 where one could not be sent or none decides anything, else 0."""
    results = {each.result for each in answer.probed}
    if ProbeResult.DISAGREED in results:
        return _DISAGREED
    return _UNDECIDED if ProbeResult.FAILED in results or ProbeResult.AGREED not in results else 0
