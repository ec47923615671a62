"""The command line on real engines, as somebody uses it who has just installed it."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import failure, run
from tests.demo import change, furnish
from tests.lab import VERSIONS, Engine, engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

FORMATS = ("table", "json", "csv", "dot")


@pytest.fixture(scope="module", params=VERSIONS)
def host(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine with the demo's containers."""
    with engine(request.param) as made:
        furnish(made)
        yield made


@pytest.fixture(scope="module")
def before(host: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what `snapshot` saves of the engine."""
    file = tmp_path_factory.mktemp("snapshot") / "before.json"
    done = run("snapshot", "-o", file, DOCKER_HOST=host.host)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return file


def test_a_report_tells_of_every_container(host: Engine) -> None:
    """All formats of `report` work on the engine itself, and agree on the pairs."""
    table, text, rows, graph = (run("report", "--format", form, DOCKER_HOST=host.host) for form in FORMATS)
    assert {done.returncode for done in (table, text, rows, graph)} == {0}
    assert {done.stderr for done in (table, text, rows, graph)} == {""}
    document = json.loads(text.stdout)
    assert document["engine"]["version"].startswith(host.version)
    assert document["totals"]["containers"] == 11
    pairs = {(pair["source"], pair["destination"]) for pair in document["pairs"]}
    assert {("tenant-a", "tenant-c"), ("shop-sidecar", "shop-db"), ("client", "node-agent")} <= pairs
    assert {("tenant-a", "tenant-b"), ("client", "backup"), ("client", "offline")}.isdisjoint(pairs)
    assert {(row["source"], row["destination"]) for row in csv.DictReader(io.StringIO(rows.stdout))} == pairs
    ids = {container["name"]: container["id"] for container in document["containers"]}
    for source, destination in pairs:
        assert re.search(rf"^{source} +{destination} ", table.stdout, re.MULTILINE)
        assert f'"{ids[source]}" -> "{ids[destination]}"' in graph.stdout


@pytest.mark.parametrize(
    ("source", "destination", "verdict", "because"),
    [
        ("client", "web", "reachable", "  + both are on network bridge"),
        ("tenant-a", "tenant-b", "blocked", "  - network tenants keeps its containers apart"),
        ("tenant-a", "tenant-c", "reachable", "  published_port on tenants: tcp 8443"),
        ("client", "backup", "blocked", "  - "),
        ("shop-api", "shop-sidecar", "reachable", "  + "),
    ],
)
def test_explain_tells_why(host: Engine, source: str, destination: str, verdict: str, because: str) -> None:
    """The first line is the verdict, and what makes it so follows."""
    done = run("explain", source, destination, DOCKER_HOST=host.host)
    first, *rest = done.stdout.splitlines()
    assert (done.returncode, done.stderr, first) == (0, "", f"{source} -> {destination}: {verdict}")
    assert any(line.startswith(because) for line in rest)


def test_a_snapshot_replays_as_the_engine_is(host: Engine, before: Path) -> None:
    """The report from the file is the engine's own, but for the time."""
    live, replayed = (
        json.loads(run("report", "--format=json", *where).stdout)
        for where in ((f"--docker.host={host.host}",), ("--snapshot", str(before)))
    )
    for document in (live, replayed):
        del document["taken_at"], document["assumptions"]
    assert live == replayed


def test_diff_tells_what_became_of_the_host(host: Engine, before: Path, tmp_path: Path) -> None:
    """Two files from before and after a change show just that change."""
    after = tmp_path / "after.json"
    change(host)
    assert run("snapshot", "-o", after, DOCKER_HOST=host.host).returncode == 0
    done = run("diff", before, after)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert lines[:2] == ["- container web", "+ container newcomer"]
    assert "+ client -> shop-db: blocked -> reachable" in lines
    assert "- client -> web: reachable -> absent" in lines
    assert (run("diff", after, after).returncode, run("diff", after, after).stdout) == (0, "")


def test_a_container_that_does_not_run_is_told(host: Engine) -> None:
    """A stopped container and a wrong name are errors in one line."""
    host.docker("create", "--name=created", "busybox-like")
    for name in ("created", "tenant-x"):
        complaint = failure("explain", name, "client", DOCKER_HOST=host.host)
        assert complaint.startswith(f"error: no running container is called '{name}'")
        assert len(complaint.splitlines()) == 1


@pytest.mark.parametrize("command", [("report",), ("explain", "client", "web"), ("snapshot",)])
def test_an_engine_that_is_gone_is_told(host: Engine, command: tuple[str, ...]) -> None:
    """Nobody at the socket is an error in one line that names it."""
    complaint = failure(*command, DOCKER_HOST=f"{host.host}.gone")
    assert f"{host.host}.gone" in complaint
    assert len(complaint.splitlines()) == 1
