"""A real Docker Engine on a host of its own, made and removed in a few seconds."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab import client
from tests.lab.errors import LabError
from tests.lab.hostns import World, make_world
from tests.lab.packages import unpacked
from tests.lab.plots import give_back, new_plot
from tests.lab.registry import Plot, engine_cgroup
from tests.lab.system import LET_GARBAGE_LIE, SYSTEM_PATH, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGE = "busybox-like"
START_TIMEOUT = 40.0
CONTAINERD = "/run/lab/containerd"


class Engine:
    """One running engine; `engine()` and `start_engine()` make them."""

    def __init__(self, version: str, plot: Plot, world: World) -> None:
        self.version = version
        self.plot = plot
        self.world = world
        self.args: tuple[str, ...] = ()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None
        self._programs = (unpacked(version), unpacked("common"))

    @property
    def socket(self) -> Path:
        """The engine's API socket."""
        return self.plot.folder / "docker.sock"

    @property
    def host(self) -> str:
        """The same as a DOCKER_HOST."""
        return f"unix://{self.socket}"

    @property
    def netns(self) -> Path:
        """The engine's own network namespace, the *host* of its containers."""
        return self.world.netns

    @property
    def pid(self) -> int:
        """The pid of dockerd."""
        if self._daemon is None:
            raise LabError(f"{self.plot.name}: dockerd was not started")
        return self._daemon.pid

    @property
    def log(self) -> Path:
        """What dockerd had to say."""
        return self.plot.folder / "dockerd.log"

    # -- the daemon

    def start(self, *args: str) -> None:
        """Start dockerd with these arguments and wait until it answers."""
        self.args = args
        command = [
            str(self._programs[0] / "usr/sbin/dockerd"),
            "--data-root=/run/lab/data",
            "--exec-root=/run/lab/exec",
            f"--containerd={CONTAINERD}/address",
            f"--host={self.host}",
            f"--pidfile={self.plot.folder / 'docker.pid'}",
            f"--cgroup-parent=/{self.plot.name}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            *args,
        ]
        if self._containerd is None:
            self._containerd = self._spawn(self._containerd_command(), self.plot.folder / "containerd.log")
        self._daemon = self._spawn(command, self.log)
        if not wait_until(lambda: self.answers() or self._ended(), START_TIMEOUT) or self._ended():
            raise LabError(
                f"{self.plot.name}: dockerd {self.version} {' '.join(args)} did not start:\n{self.log_tail()}"
            )

    def stop(self, timeout: float = 30) -> None:
        """Ask dockerd to end, as a service manager would; without --live-restore the containers end with it."""
        daemon = self._daemon
        if daemon is None:
            return
        daemon.terminate()
        try:
            daemon.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.plot.name}: dockerd does not end:\n{self.log_tail()}") from error

    def restart(self, *args: str) -> None:
        """Stop dockerd, if it still runs, and start it with other arguments on the same data."""
        self.stop()
        self.start(*args)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send dockerd a signal; after SIGKILL wait until it is gone."""
        os.kill(self.pid, number)
        if number == signal.SIGKILL and self._daemon is not None:
            self._daemon.wait(10)

    def answers(self) -> bool:
        """Tell whether the API answers now."""
        try:
            return bool(client.get(self.socket, "/_ping", timeout=5))
        except LabError:
            return False

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of dockerd's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    # -- containers

    def run(self, name: str, *flags: str, image: str = IMAGE, command: Sequence[str] = ("sleep", "1000000")) -> str:
        """Start a container with `docker run` flags and return its id."""
        # sleep as pid 1 ignores SIGTERM: ending at once on stop is worth ten seconds per container
        return self.docker(
            "run", "--detach", f"--name={name}", "--stop-signal=SIGKILL", *flags, image, *command
        ).strip()

    def docker(self, *args: str, stdin: bytes | None = None, timeout: float = 120) -> str:
        """Run the docker CLI of the engine's own version against it."""
        cli = str(self._programs[0] / "usr/bin/docker")
        return run([cli, "--host", self.host, *args], env=self._environment(), stdin=stdin, timeout=timeout)

    def api(self, url: str) -> Any:  # noqa: ANN401 - JSON has no narrower type
        """GET a JSON document from the engine."""
        return client.get(self.socket, url)

    def pid_of(self, container: str) -> int:
        """Return the pid of a running container's first process, as the machine sees it."""
        pid = int(self.api(f"/containers/{container}/json")["State"]["Pid"])
        if not pid:
            raise LabError(f"container {container} does not run")
        return pid

    def port_of(self, container: str) -> str:
        """Return the host's end of the cable of a container's first interface."""
        index = self.docker("exec", container, "cat", "/sys/class/net/eth0/iflink").strip()
        links = (line.split(": ") for line in self.on_host("ip", "-oneline", "link").splitlines())
        return next(link[1].partition("@")[0] for link in links if link[0] == index)

    def sandbox_inode(self, container: str | None = None) -> int:
        """Return the inode of a container's network namespace, or of the host's own."""
        path = self.netns if container is None else Path(f"/proc/{self.pid_of(container)}/ns/net")
        return path.stat().st_ino

    def on_host(self, *command: str) -> str:
        """Run a command on the engine's host: in its network and mount namespaces."""
        return run(self.world.enter(command), env=self._environment())

    def close(self) -> None:
        """Remove the engine with everything it has; nothing is asked, everything is killed."""
        give_back(self.plot)
        for process in (self.world.anchor, self._containerd, self._daemon):
            if process is not None:
                process.wait()

    def import_image(self) -> None:
        """Give the engine its one image: a static busybox."""
        busybox = self._programs[1] / "bin/busybox"
        self.docker("import", "--change", 'CMD ["sleep", "1000000"]', "-", IMAGE, stdin=image_of(busybox))

    def _containerd_command(self) -> list[str]:
        """Say how containerd is started: beside dockerd and outliving it, as the packages' service units do.

        A dockerd that starts its own waits a second for it, and another for its end.
        """
        paths = (f"--{name}={CONTAINERD}/{name}" for name in ("root", "state", "address"))
        return [str(self._programs[0] / "usr/bin/containerd"), "--config=/dev/null", *paths]

    def _cgroup_file(self) -> str:
        return str(engine_cgroup(self.plot) / "cgroup.procs")

    def _spawn(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program of the engine on its host."""
        with log.open("ab") as output:
            return subprocess.Popen(
                ["sh", "-c", 'echo $$ > "$0" && exec "$@"', self._cgroup_file(), *self.world.enter(command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
                start_new_session=True,
            )

    def _ended(self) -> bool:
        return self._daemon is None or self._daemon.poll() is not None

    def _environment(self) -> dict[str, str]:
        """Put the engine's own programs first in PATH; leave out whatever would redirect the CLI."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        folders = [str(root / folder) for root in self._programs for folder in ("usr/sbin", "usr/bin")]
        config = str(self.plot.folder / "cli")
        path = os.pathsep.join((*folders, SYSTEM_PATH))
        return {**inherited, "PATH": path, "DOCKER_CONFIG": config, **LET_GARBAGE_LIE}


def start_engine(version: str, *args: str, connected: bool = False, prepare: Sequence[str] = ()) -> Engine:
    """Start an engine; `close()` removes it. What dead runs left behind is removed first.

    `prepare` are commands of the shell for its host, before anything of the engine runs there. A connected engine has
    no network namespace of its own: for building images that need the machine's network.
    """
    plot = new_plot()
    with contextlib.ExitStack() as undo:
        undo.callback(give_back, plot)
        made = Engine(version, plot, make_world(plot, connected=connected))
        undo.callback(made.close)
        for command in prepare:
            made.on_host("sh", "-ec", command)
        made.start(*(CONNECTED_ARGS if connected else ()), *args)
        made.import_image()
        undo.pop_all()
    return made


# An engine in the machine's own namespace must not touch its interfaces, firewall or sysctls.
CONNECTED_ARGS = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")


@contextlib.contextmanager
def engine(version: str, *args: str, connected: bool = False) -> Iterator[Engine]:
    """Have an engine for the length of a with block."""
    made = start_engine(version, *args, connected=connected)
    try:
        yield made
    finally:
        made.close()


def image_of(busybox: Path) -> bytes:
    """Return a root file system of one program under all its names, as a tar."""
    applets = run([str(busybox), "--list"]).split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return buffer.getvalue()
