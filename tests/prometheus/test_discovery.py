"""The ways of deploy/prometheus to find exporters, each with a real Prometheus."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.rules import DEPLOY
from tests.lab import engine
from tests.lab.system import wait_until
from tests.prometheus.server import started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

FOUND_WITHIN = 20.0


def targets(folder: Path, name: str, **changes: object) -> set[str]:
    """Return the instances that a Prometheus finds with one of the files, after changes to its discovery."""
    document = yaml.safe_load((DEPLOY / "prometheus" / f"{name}.yml").read_text())
    document.pop("alerting", None)
    (scrape,) = document["scrape_configs"]
    (kind,) = (key for key in scrape if key.endswith("_sd_configs"))
    scrape[kind][0].update(changes)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(document))
    found: set[str] = set()
    with started("3.5", folder) as server:

        def any_target() -> bool:
            found.update(each["labels"]["instance"] for each in server.ask("targets")["activeTargets"])
            return bool(found)

        assert wait_until(any_target, FOUND_WITHIN, 0.2)
    return found


def test_files_name_hosts(tmp_path: Path) -> None:
    """Each host of the file is a target."""
    shutil.copytree(DEPLOY / "prometheus" / "targets", tmp_path / "targets")
    assert targets(tmp_path, "prometheus-file") == {"docker1.example.org:10422", "docker2.example.org:10422"}


def test_an_inventory_names_hosts(tmp_path: Path) -> None:
    """Each host of the inventory's answer is a target."""
    with inventory([{"targets": ["docker1:10422"], "labels": {"site": "x"}}]) as url:
        assert targets(tmp_path, "prometheus-http", url=url) == {"docker1:10422"}


def test_a_label_names_a_container(tmp_path: Path) -> None:
    """The container with the label is one target, by its name, whatever other ports it has."""
    with engine("28.5") as made:
        made.docker("network", "create", "monitoring")
        made.run("icc-exporter", "--label=docker-icc=exporter", "--network=monitoring", "--expose=10422", "--expose=80")
        made.run("other", "--expose=10422", "--network=monitoring")
        assert targets(tmp_path, "prometheus-docker", host=made.host) == {"icc-exporter"}


@contextmanager
def inventory(answer: list[dict[str, Any]]) -> Iterator[str]:
    """Have a server that answers with a list of targets."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
