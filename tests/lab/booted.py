"""A host that systemd boots, with the Docker Engine as its package's units start it.

Nothing of it is the machine's but programs and kernel: systemd is PID 1 of a PID namespace, its cgroups begin where the
plot's do, its network is the plot's, and its root is a tmpfs with the machine's /usr to read, Docker's packages laid
over it. With the last process in the plot's cgroups all of it is gone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.engine import IMAGE, image_of
from tests.lab.errors import LabError
from tests.lab.hostns import make_network
from tests.lab.packages import unpacked
from tests.lab.plots import give_back, new_plot
from tests.lab.registry import NAMED_NAMESPACES, Plot, engine_cgroup, world_cgroups
from tests.lab.system import SYSTEM_PATH, children_of, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOT_TIMEOUT = 60.0

# Arguments: the folder for the root, that of the engine's packages, that of the programs for all engines, the cgroups.
# Of what every system starts only the journal is left: devices, terminals, sessions and the clock are the machine's,
# and so are the kernel's switches but for those of the network. Mounts are shared, as systemd has them on a real host.
_BOOT = """
set -e
root=$1 engine=$2 common=$3
shift 3
for group; do echo 0 >"$group/cgroup.procs"; done
exec unshare --cgroup sh -ec '
  root=$1 engine=$2 common=$3
  grep -E "^[^ ]+ [^ ]+ cgroup2? " /proc/self/mounts >"$root/../cgroups"
  mount -t tmpfs -o mode=755 tmpfs "$root"
  cd "$root"
  mkdir -m 755 dev etc home opt proc run srv sys usr var var/cache var/lib var/log machine
  mkdir -m 1777 tmp var/tmp
  mkdir -m 700 root
  ln -s usr/bin usr/sbin usr/lib usr/lib64 .
  ln -s ../run var/run

  mount -t overlay -o "ro,lowerdir=$engine/usr:$common/usr:/usr" overlay usr
  for name in alternatives ld.so.cache nsswitch.conf protocols services; do
    test ! -e "/etc/$name" || cp -a "/etc/$name" etc
  done
  cp -a "$engine/etc/." etc
  tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
  echo "{\\"exec-opts\\": [\\"native.cgroupdriver=cgroupfs\\"]}" >etc/docker/daemon.json

  mount -t proc proc proc
  mount --bind proc/sys proc/sys
  mount --bind proc/sys/net proc/sys/net
  mount -o remount,bind,ro proc/sys
  mount -t sysfs sysfs sys
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  while read -r _ place kind options _; do
    place=sys/fs/cgroup${place#/sys/fs/cgroup}
    mkdir -p "$place"
    mount -t "$kind" -o "${options#rw,}" "$kind" "$place"
  done <"$root/../cgroups"

  mount -t tmpfs -o mode=755 tmpfs dev
  for name in null zero full random urandom tty; do cp -a "/dev/$name" dev; done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  mount -t tmpfs -o mode=755 tmpfs run

  mkdir -p etc/systemd/system/multi-user.target.wants etc/systemd/system/sockets.target.wants
  for unit in usr/lib/systemd/system/*.wants/*; do
    name=${unit##*/}
    case $name in
      systemd-journald*|*.target) ;;
      *) ln -sf /dev/null "etc/systemd/system/$name" ;;
    esac
  done
  ln -s /usr/lib/systemd/system/multi-user.target etc/systemd/system/default.target
  ln -s /usr/lib/systemd/system/containerd.service /usr/lib/systemd/system/docker.service \
    etc/systemd/system/multi-user.target.wants
  ln -s /usr/lib/systemd/system/docker.socket etc/systemd/system/sockets.target.wants

  pivot_root . machine
  umount -l machine
  rmdir machine
  mount --make-rshared /
  systemd-sysusers
  exec env -i container=lab /usr/lib/systemd/systemd --system --log-target=journal
' sh "$root" "$engine" "$common"
"""


@dataclass(frozen=True, slots=True)
class Booted:
    """A running host; `init` is the pid of its systemd as the machine sees it."""

    plot: Plot
    version: str
    init: int

    @property
    def root(self) -> Path:
        """The host's files, for who is not on it."""
        return Path(f"/proc/{self.init}/root")

    @property
    def netns(self) -> Path:
        """The host's network namespace."""
        return NAMED_NAMESPACES / self.plot.host_namespace

    def enter(self, *command: str) -> list[str]:
        """Wrap a command so that it runs on the host, as from a shell of root's."""
        namespaces = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd")
        environment = ("env", "-i", "HOME=/root", "LC_ALL=C.UTF-8", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return ["nsenter", f"--target={self.init}", *namespaces, "--", *environment, *command]

    def run(self, *command: str, stdin: bytes | None = None, timeout: float = 120) -> str:
        """Run a command on the host and return what it prints."""
        return run(self.enter(*command), stdin=stdin, timeout=timeout)

    def shell(self, script: str, timeout: float = 120) -> str:
        """Run lines of the shell on the host and return what they print."""
        return self.run("sh", "-ec", script, timeout=timeout)

    def start_container(self, name: str, *flags: str) -> None:
        """Start a container that ends at once when it is asked to."""
        self.run("docker", "run", "--detach", f"--name={name}", "--stop-signal=SIGKILL", *flags, IMAGE)


@contextlib.contextmanager
def booted(version: str) -> Iterator[Booted]:
    """Have a host with an engine and its image for the length of a with block."""
    plot = new_plot()
    anchor: subprocess.Popen[bytes] | None = None
    try:
        make_network(plot)
        anchor = _boot(plot, version)
        host = Booted(plot, version, _init_of(plot, anchor))
        _await_boot(host)
        image = image_of(unpacked("common") / "bin/busybox")
        host.run("docker", "import", "--change", 'CMD ["sleep", "1000000"]', "-", IMAGE, stdin=image)
        yield host
    finally:
        give_back(plot)
        if anchor is not None:
            anchor.wait()


def _boot(plot: Plot, version: str) -> subprocess.Popen[bytes]:
    """Start the process whose child becomes systemd: it stays outside, for nobody may be beside those groups."""
    root = plot.folder / "root"
    root.mkdir()
    spaces = ("--mount", "--propagation=private", "--pid", "--fork", "--uts", "--ipc")
    join = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(engine_cgroup(plot)))
    enter = (*join, "nsenter", f"--net={NAMED_NAMESPACES / plot.host_namespace}", "unshare", *spaces)
    arguments = (root, unpacked(version), unpacked("common"), *world_cgroups(plot))
    with _log(plot).open("w") as output:
        return subprocess.Popen(
            [*enter, "sh", "-c", _BOOT, "sh", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": SYSTEM_PATH},
            start_new_session=True,
        )


def _init_of(plot: Plot, anchor: subprocess.Popen[bytes]) -> int:
    """Return the pid of systemd as soon as it manages."""

    def managed() -> bool:
        return any(Path(f"/proc/{pid}/root/run/systemd/private").exists() for pid in children_of(anchor.pid))

    if not wait_until(lambda: managed() or anchor.poll() is not None, BOOT_TIMEOUT) or anchor.poll() is not None:
        raise LabError(f"{plot.name}: systemd does not start: {_log(plot).read_text().strip()}")
    (pid,) = children_of(anchor.pid)
    return pid


def _await_boot(host: Booted) -> None:
    """Wait until all is started that boot starts, and see that nothing failed."""
    try:
        host.run("systemctl", "is-system-running", "--wait", timeout=BOOT_TIMEOUT)
    except LabError as error:
        tail = host.run("journalctl", "--no-pager", "--lines=40")
        raise LabError(f"{host.plot.name}: the host does not boot: {error}\n{tail}") from error


def _log(plot: Plot) -> Path:
    return plot.folder / "boot.log"
