"""The exporter on a real engine with a handful of containers: python -m tests.demo (make demo).

Without root, or where no engine can start, it shows a recorded host instead, and says so.
`python -m tests.demo record` makes the recordings anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from tests.lab import Container, Engine, LabError, Network, Topology, build, engine
from tests.lab.packages import install_tools, unpacked

if TYPE_CHECKING:
    from types import FrameType

VERSION = "28.5"
PORT = 10422
RECORDED = Path(__file__).parent / "data" / "demo-host.json"
START_TIMEOUT = 15.0
PROGRAMS = Path(sys.executable).parent

# One of each way in which containers reach one another, or do not.
HOST = Topology(
    networks=(
        Network("shop"),
        Network("tenants", options={"com.docker.network.bridge.enable_icc": "false"}),
        Network("vault", flags=("--internal",)),
    ),
    containers=(
        Container("client"),
        Container("shop-api", "shop", flags=("--publish=8080:80",)),
        Container("shop-db", "shop", also=("vault",)),
        Container("tenant-a", "tenants"),
        Container("tenant-b", "tenants"),
        Container("tenant-c", "tenants", flags=("--publish=8443:443",)),
        Container("backup", "vault"),
        Container("node-agent", "host"),
        Container("offline", "none"),
        Container("shop-sidecar", "container:shop-api"),  # late: seconds after its owner, as the API counts them
    ),
)
WEB_SERVER = ("sh", "-c", "echo It works. >/tmp/index.html; exec httpd -f -p 80 -h /tmp")


def main(arguments: list[str]) -> int:
    """Show what can be shown here until somebody has enough of it."""
    signal.signal(signal.SIGTERM, _end)
    if arguments:
        return _record() if arguments == ["record"] else _usage()
    with contextlib.suppress(KeyboardInterrupt):
        if os.geteuid() != 0:
            return _replay("starting an engine needs root")
        print(f"Starting a Docker Engine {VERSION}; the first time it is downloaded.", flush=True)
        try:
            install_tools()
            with engine(VERSION) as made:
                furnish(made)
                return _show(_about(made), f"--docker.host={made.host}", f"--host.netns={made.netns}")
        except LabError as error:
            return _replay(f"no engine can start here: {error}")
    return 0


def furnish(made: Engine) -> None:
    """Start the demo's containers: a web server on the default bridge, and those of `HOST`."""
    made.run("web", command=WEB_SERVER)
    build(made, HOST)


def change(made: Engine) -> None:
    """Let a later look at the host differ: a server is replaced, and a client gets into the shop."""
    made.docker("rm", "--force", "web")
    made.run("newcomer")
    made.docker("network", "connect", "shop", "client")


def _usage() -> int:
    print(__doc__, file=sys.stderr)
    return 2


def _record() -> int:
    """Write down what the API says of the demo's host, and of what becomes of it."""
    with engine(VERSION) as made:
        furnish(made)
        _save(made, RECORDED)
        change(made)
        _save(made, RECORDED.with_stem(f"{RECORDED.stem}-later"))
    return 0


def _save(made: Engine, file: Path) -> None:
    command = [sys.executable, "-m", "exporter", "snapshot", f"--docker.host={made.host}", "--evidence.max=api"]
    document = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    document["api"]["info"]["Name"] = "demo-host"  # not the recording machine's name
    with tempfile.NamedTemporaryFile("w", suffix=".json") as draft:
        json.dump(document, draft)
        draft.flush()
        command = [sys.executable, "-m", "exporter", "snapshot", f"--snapshot={draft.name}"]
        file.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _about(made: Engine) -> str:
    address = made.api("/containers/web/json")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    return f"""\
A private Docker Engine {made.version} runs for this demo. In another terminal:

  export DOCKER_HOST={made.host} ICC_EXPORTER_HOST_NETNS={made.netns}
  export PATH={unpacked(VERSION) / "usr/bin"}:{PROGRAMS}:$PATH
  docker ps
  docker exec client timeout 2 wget -q -O - http://{address}/
  docker-icc-exporter report
  docker-icc-exporter explain client web
  docker-icc-exporter explain tenant-a tenant-b
  docker-icc-exporter explain tenant-a tenant-c

Change something and watch reachable_pairs_total follow within a second:

  docker network connect shop client
  docker rm -f web

Change something behind the engine's back, and see docker_icc_drift_pairs at the next poll:

  nsenter --net={made.netns} sysctl net.bridge.bridge-nf-call-iptables=0
  docker-icc-exporter explain tenant-a tenant-b --protocol tcp --port 80"""


def _replay(reason: str) -> int:
    print(f"REPLAY, NOT A LIVE ENGINE: {reason}.\nShown is a recorded Docker Engine {VERSION}.\n")
    about = f"""\
In another terminal:

  export ICC_EXPORTER_SNAPSHOT={RECORDED} PATH={PROGRAMS}:$PATH
  docker-icc-exporter report
  docker-icc-exporter explain client web
  docker-icc-exporter explain tenant-a tenant-b
  docker-icc-exporter explain tenant-a tenant-c"""
    return _show(about, f"--snapshot={RECORDED}")


def _show(about: str, *source: str) -> int:
    """Run the exporter on an engine or a file until it ends or the demo is ended."""
    port = _free_port()
    command = [sys.executable, "-m", "exporter", *source, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    exporter = subprocess.Popen(command, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(exporter, url)
        print(f"{about}\n\nThe exporter serves at {url}/ and {url}/metrics:\n", flush=True)
        _print_gauges(url)
        print("\nCtrl-C ends the demo and removes everything it made.", flush=True)
        return exporter.wait()
    finally:
        exporter.terminate()
        exporter.wait()


def _free_port() -> int:
    """Return the exporter's port, or any other where that one is taken."""
    for port in (PORT, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SystemExit("no TCP port is free on 127.0.0.1")


def _wait_until_ready(exporter: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while exporter.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urlopen(f"{url}/-/ready", timeout=2):
            return
        time.sleep(0.1)
    raise SystemExit("the exporter did not get ready")


def _print_gauges(url: str) -> None:
    with urlopen(f"{url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    for line in lines:
        if line.startswith(("icc_enabled ", "reachable_pairs_total ", "docker_icc_network_enabled{")):
            print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
