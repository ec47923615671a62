"""Many random hosts: `python -m tests.conformance --count 100 [--seed N] [--version 28.5] [--save DIR]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from itertools import product
from pathlib import Path

from exporter.observe.files import dumps
from tests.conformance.generator import generate
from tests.conformance.runner import Outcome, run_case
from tests.lab import VERSIONS, LabError


def main() -> int:
    """Run the cases one after the other; return 1 where a verdict and a packet disagree."""
    options = _options()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.count)
    failed = pairs = probes = 0
    unknown: Counter[str] = Counter()
    for seed, version in product(seeds, options.version or VERSIONS):
        began = time.monotonic()
        try:
            outcome = run_case(generate(version, seed))
        except LabError as error:
            print(f"{version} seed {seed}: not built: {error}", flush=True)
            failed += 1
            continue
        found = outcome.comparison
        failed += bool(found.disagreements)
        pairs, probes = pairs + found.pairs, probes + found.probes
        unknown.update(found.unknown)
        print(
            f"{version} seed {seed}: {found.pairs} pairs, {found.probes} probes, {len(found.unknown)} unknown, "
            f"{len(found.disagreements)} wrong, {time.monotonic() - began:.1f} s",
            flush=True,
        )
        if found.disagreements:
            _show(outcome, options.save)
    for reason, count in unknown.most_common():
        print(f"unknown for {count} pairs: {reason}")
    print(f"{pairs} pairs, {probes} probes, {unknown.total()} unknown pairs; {failed} cases with a disagreement")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="seeds to run")
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--version", action="append", choices=VERSIONS)
    parser.add_argument("--save", type=Path, help="folder for the observations of failing cases")
    return parser.parse_args()


def _show(outcome: Outcome, folder: Path | None) -> None:
    case = outcome.case
    print("  args", *case.topology.args)
    for network in case.topology.networks:
        print("  network", network.name, network.driver, dict(network.options), *network.flags)
    for container in case.topology.containers:
        print("  container", container.name, container.network, list(container.also), *container.flags)
    for command in case.after:
        print("  then", *command)
    for text in outcome.comparison.disagreements:
        print("  WRONG", text)
    print(f"  again: python -m tests.conformance --version {case.version} --seed {case.topology.seed}")
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case.version}-{case.topology.seed}.json").write_text(dumps(outcome.observation))


if __name__ == "__main__":
    sys.exit(main())
