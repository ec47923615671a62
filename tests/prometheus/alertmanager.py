"""An Alertmanager from Debian's archive, with the configuration that deploy/ offers."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

from tests.lab.packages import unpacked
from tests.prometheus.server import PATIENCE, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_WITH_TEMPLATES = 'mount -t overlay -o "lowerdir=$0:/usr/share" overlay /usr/share && exec "$@"'
"""Debian's program looks for its templates where the package would have put them."""

DEPLOYED = Path(__file__).parents[2] / "deploy" / "alertmanager" / "alertmanager.yml"


class Alertmanager:
    """A running server."""

    def __init__(self, address: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.address = address
        self._process = process
        self._log = log

    def alerts(self) -> dict[str, dict[str, Any]]:
        """Return the alerts that have not resolved, by name; waits until it listens."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urlopen(f"http://{self.address}/api/v2/alerts", timeout=5) as answer:
                    return {alert["labels"]["alertname"]: alert for alert in json.load(answer)}
            except (URLError, ConnectionError):
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)


@contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Have an Alertmanager that is alone, and listens."""
    address = f"127.0.0.1:{free_port()}"
    root = unpacked("alertmanager")
    command = [
        *("unshare", "--mount", "--propagation=private", "sh", "-c", _WITH_TEMPLATES, str(root / "usr/share")),
        str(root / "usr/bin/prometheus-alertmanager"),
        f"--config.file={DEPLOYED}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    log = folder / "alertmanager.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        made = Alertmanager(address, process, log)
        made.alerts()
        yield made
    finally:
        process.kill()
        process.wait()


def amtool(*arguments: str) -> str:
    """Return everything that Alertmanager's checker prints."""
    program = str(unpacked("alertmanager") / "usr/bin/amtool")
    command = [program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
