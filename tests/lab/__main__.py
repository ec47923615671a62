"""The lab by hand.

python -m tests.lab setup                          install the system tools, download everything else into the cache
python -m tests.lab run VERSION [ARGUMENT ...]     keep an engine (with dockerd arguments) until Ctrl-C
python -m tests.lab reap                           remove what dead runs left behind
python -m tests.lab selftest                       start every engine and send packets between two containers
"""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

from tests.lab import VERSIONS, LabError, arrivals, engine, reap
from tests.lab.packages import BUNDLES, cache_folder, install_tools, python_root, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable


def setup() -> None:
    """Install and download everything, and say what is done."""
    installed = install_tools()
    print(f"system tools: {'installed ' + ' '.join(installed) if installed else 'all there'}")
    print(f"cache: {cache_folder()}")
    for name in BUNDLES:
        print(f"{name}: {unpacked(name)}", flush=True)
    print(f"Debian with Python: {python_root()}")


def keep(version: str, *args: str) -> None:
    """Keep an engine until somebody has enough of it."""
    with engine(version, *args) as made:
        cli = unpacked(version) / "usr/bin/docker"
        print(f"export DOCKER_HOST={made.host}\n{cli} ps\nnsenter --net={made.netns} …\nlog: {made.log}", flush=True)
        signal.pause()


def clean() -> None:
    """Remove what dead runs left behind, and name it."""
    for name in reap():
        print(name)


def selftest() -> None:
    """Start every engine and see that two containers reach each other."""
    for version in VERSIONS:
        begun = time.monotonic()
        with engine(version) as made:
            for name in ("one", "two"):
                made.run(name)
            address = made.api("/containers/two/json")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            seen = sorted(arrival for arrival in arrivals(made, [address], [80]) if arrival.source == "one")
        print(f"{version}: {len(seen)} of 3 arrivals in {time.monotonic() - begun:.1f} s")
        if [arrival.destination for arrival in seen] != ["two"] * 3:
            raise LabError(f"{version}: expected TCP, UDP and ICMP to arrive in 'two', saw {seen}")


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    commands: dict[str, Callable[..., None]] = {"setup": setup, "run": keep, "reap": clean, "selftest": selftest}
    if not arguments or arguments[0] not in commands or (arguments[0] == "run" and len(arguments) < 2):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        commands[arguments[0]](*arguments[1:])
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
