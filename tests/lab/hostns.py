"""The engine's own world: a network namespace with cards and addresses, and a private mount namespace.

Two mount facts decide the shape. sysfs shows the network devices of whoever mounted it, so the engine gets a fresh
one (with the cgroups put back), as on a host of its own. And a copied mount of another engine's namespace would keep
that namespace alive, so those copies are dropped. Everything the engine writes lies on a tmpfs over /run that no
other process sees; it is gone with the last process of the engine.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.errors import LabError
from tests.lab.registry import NAMED_NAMESPACES, Plot, engine_cgroup
from tests.lab.system import SYSTEM_PATH, ProcessIdentity, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

ADDRESS_V4 = "198.51.100.10"
ADDRESS_V6 = "2001:db8:100::10"
GATEWAY_V4 = "198.51.100.1"
GATEWAY_V6 = "2001:db8:100::1"
# eth0 is the host's address; the other two are parents for macvlan networks, as in the recorded topologies.
CARDS = ("eth0", "eth10", "eth11")
SYSCTLS = (
    ("ipv4/ip_forward", 1),
    ("ipv6/conf/all/forwarding", 1),
    ("ipv6/conf/default/forwarding", 1),
    # Looking for duplicate addresses costs every new bridge two seconds, and there can be none here.
    ("ipv6/conf/default/accept_dad", 0),
)
READY = "world ready"

_WORLD = f"""
set -e
echo $$ > "$1/cgroup.procs"
if [ "$3" = own ]; then
  mkdir "$2/cgroup"
  mount --rbind /sys/fs/cgroup "$2/cgroup"
  mount -t sysfs sysfs /sys
  mount --move "$2/cgroup" /sys/fs/cgroup
  rmdir "$2/cgroup"
fi
umount -l /run/netns 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lab
echo "{READY}"
exec sleep infinity
"""


@dataclass(frozen=True, slots=True)
class World:
    """The namespaces of one engine and the process that holds them open."""

    plot: Plot
    netns: Path
    anchor: subprocess.Popen[bytes]

    def enter(self, command: Sequence[str]) -> list[str]:
        """Wrap a command so that it runs on the engine's host: in its network and mount namespaces."""
        # --wd: the mount namespace is entered at its root, and the caller's folder means nothing there
        return ["nsenter", f"--net={self.netns}", f"--mount=/proc/{self.anchor.pid}/ns/mnt", "--wd=/", "--", *command]


def make_world(plot: Plot, *, connected: bool) -> World:
    """Make the namespaces; a connected world uses the machine's own network instead of a made one."""
    if connected:
        netns = Path(f"/proc/{os.getpid()}/ns/net")
    else:
        make_network(plot)
        netns = NAMED_NAMESPACES / plot.host_namespace
    return World(plot, netns, _start_anchor(plot, netns, "shared" if connected else "own"))


def make_network(plot: Plot) -> None:
    """Make the host's network namespace and the outside one that its cards lead to."""
    host, outside = plot.host_namespace, plot.outside_namespace
    for namespace in (host, outside):
        run(["ip", "netns", "add", namespace])
        run(["ip", "-n", namespace, "link", "set", "lo", "up"])
    for card in CARDS:
        # Both ends are born inside, so that no interface ever shows up in the machine's own namespace.
        run(["ip", "-n", host, "link", "add", card, "type", "veth", "peer", "name", card, "netns", outside])
        run(["ip", "-n", host, "link", "set", card, "up"])
        run(["ip", "-n", outside, "link", "set", card, "up"])
    for namespace, v4, v6 in ((host, ADDRESS_V4, ADDRESS_V6), (outside, GATEWAY_V4, GATEWAY_V6)):
        run(["ip", "-n", namespace, "address", "add", f"{v4}/24", "dev", "eth0"])
        run(["ip", "-n", namespace, "address", "add", f"{v6}/64", "dev", "eth0", "nodad"])
    run(["ip", "-n", host, "route", "add", "default", "via", GATEWAY_V4])
    run(["ip", "-n", host, "-6", "route", "add", "default", "via", GATEWAY_V6])
    script = "; ".join(f"echo {value} > /proc/sys/net/{switch}" for switch, value in SYSCTLS)
    run(["nsenter", f"--net={NAMED_NAMESPACES / host}", "--", "sh", "-ec", script])


def _start_anchor(plot: Plot, netns: Path, sysfs: str) -> subprocess.Popen[bytes]:
    """Start the process that holds the mount namespace, set that up, and return it."""
    log = plot.folder / "world.log"
    command = ["nsenter", f"--net={netns}", "--", "unshare", "--mount", "--propagation", "private", "sh", "-c", _WORLD]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "sh", str(engine_cgroup(plot)), str(plot.folder), sysfs],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": SYSTEM_PATH},
            start_new_session=True,
        )
    ready = wait_until(lambda: READY in log.read_text() or process.poll() is not None, timeout=10)
    if not ready or ProcessIdentity.of(process.pid) is None:
        process.kill()
        process.wait()
        raise LabError(f"{plot.name}: the engine's namespaces could not be set up: {log.read_text().strip()}")
    return process
