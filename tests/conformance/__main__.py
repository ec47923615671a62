"""Many random hosts: `python -m tests.conformance --count 100 [--tampered] [--seed N] [--version V] [--save DIR]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.observe.files import dumps
from tests.conformance.generator import generate
from tests.conformance.runner import Outcome, run_case
from tests.lab import VERSIONS, LabError

if TYPE_CHECKING:
    from tests.conformance.compare import Comparison


@dataclass
class Tally:
    """What came of many comparisons of one kind of verdict."""

    name: str
    pairs: int = 0
    probes: int = 0
    failed: int = 0
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, found: Comparison) -> str:
        """Count a comparison; return it in words."""
        self.pairs, self.probes = self.pairs + found.pairs, self.probes + found.probes
        self.failed += bool(found.disagreements)
        self.unknown.update(found.unknown)
        return f"{self.name} {len(found.disagreements)} wrong, {len(found.unknown)} unknown"

    def show(self) -> None:
        """Print the sums."""
        for reason, count in self.unknown.most_common():
            print(f"{self.name}: unknown for {count} pairs: {reason}")
        print(f"{self.name}: {self.pairs} pairs, {self.probes} probes, {self.unknown.total()} unknown pairs; ", end="")
        print(f"{self.failed} cases with a disagreement")


def main() -> int:
    """Run the cases one after the other; return 1 where a verdict and a packet disagree, or is unknown without a cause.

    Of tampered hosts, what the configuration promises is told and not judged.
    """
    options = _options()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.count)
    enforced, declared = Tally("enforced"), Tally("declared")
    unbuilt = doubtful = odd = 0
    for seed, version in product(seeds, options.version or VERSIONS):
        began = time.monotonic()
        try:
            outcome = run_case(generate(version, seed), tampered=options.tampered)
        except LabError as error:
            print(f"{version} seed {seed}: not built: {error}", flush=True)
            unbuilt += 1
            continue
        words = (enforced.add(outcome.enforced), declared.add(outcome.declared))
        changes = "".join(f" [{change.name}]" for change in outcome.truth.changes)
        print(f"{version} seed {seed}: {'; '.join(words)}; {time.monotonic() - began:.1f} s{changes}", flush=True)
        doubtful += bool(outcome.unexplained)
        odd += bool(outcome.unlike or outcome.unread)
        if (
            outcome.unexplained
            or outcome.unlike
            or outcome.unread
            or outcome.enforced.disagreements
            or (outcome.declared.disagreements and not options.tampered)
        ):
            _show(outcome, options.save)
    for tally in (enforced, declared):
        tally.show()
    print(f"{doubtful} cases with something unknown that nothing on the host is the cause of")
    print(f"{odd} cases in which a part of the host, or the tier kernel, gives something else")
    return 1 if unbuilt or doubtful or odd or enforced.failed or (declared.failed and not options.tampered) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="seeds to run")
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--version", action="append", choices=VERSIONS)
    parser.add_argument("--tampered", action="store_true", help="change each host behind its engine's back")
    parser.add_argument("--save", type=Path, help="folder for the observations of failing cases")
    return parser.parse_args()


def _show(outcome: Outcome, folder: Path | None) -> None:
    truth = outcome.truth
    case = truth.case
    print("  args", *case.topology.args)
    for network in case.topology.networks:
        print("  network", network.name, network.driver, dict(network.options), *network.flags)
    for container in case.topology.containers:
        print("  container", container.name, container.network, list(container.also), *container.flags)
    for command in case.after:
        print("  then", *command)
    for change in truth.changes:
        commands = (*change.commands, *(" ".join(("docker", *arguments)) for arguments in change.engine))
        print("  changed", change.inside or "host", *(f"\n      {command}" for command in commands))
    found = {
        "WRONG, enforced": outcome.enforced.disagreements,
        "UNKNOWN without a cause": sorted(outcome.unexplained),
        "UNLIKE the whole host": outcome.unlike,
        "WRONG, in the tier kernel": outcome.unread,
        "WRONG, declared": () if truth.changes else outcome.declared.disagreements,
    }
    for what, texts in found.items():
        print("".join(f"  {what}: {text}\n" for text in texts), end="")
    tampered = " --tampered" if truth.changes else ""
    print(f"  again: python -m tests.conformance --version {case.version} --seed {case.topology.seed}{tampered}")
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case.version}-{case.topology.seed}.json").write_text(dumps(truth.observation))


if __name__ == "__main__":
    sys.exit(main())
