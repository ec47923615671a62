"""The usual way to export: prometheus_client's server, which renders a registry at each scrape.

Reads an exposition from standard input, and writes the address at which it serves the same samples.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric


class Replay(Collector):
    """Samples that were collected elsewhere."""

    def __init__(self, text: str) -> None:
        self._families = list(text_string_to_metric_families(text))

    def collect(self) -> Iterable[Metric]:
        """Return the samples."""
        return self._families


def main() -> None:
    """Serve until somebody ends it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Replay(sys.stdin.read()))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    print(f"127.0.0.1:{server.server_port}", flush=True)
    thread.join()


if __name__ == "__main__":
    main()
