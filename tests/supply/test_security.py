"""SECURITY.md: what it says of rights, paths, limits and data, against the code and deploy/."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml

from exporter import yamlfile
from exporter.config import Config
from exporter.observe import client, documents, events, files
from exporter.observe.kernel import netlink, programs
from exporter.observe.kernel.daemon import root
from exporter.runtime import connection, door, http, tls, turns
from tests.deploy.rules import DEPLOY
from tests.supply.lock import ROOT

TEXT: Final = (ROOT / "SECURITY.md").read_text()
MIB: Final = 1 << 20

LIMITS = {
    "one answer of the engine": f"{client.BODY_LIMIT // MIB} MiB",
    "a line of its events": f"{events._LINE_LIMIT // MIB} MiB",
    "output of a program that prints rules": f"{programs.SIZE_LIMIT // MIB} MiB",
    "answers of netlink to one question": f"{netlink._SIZE_LIMIT // MIB} MiB",
    "a snapshot that is read from a file": f"{files.SIZE_LIMIT // MIB} MiB",
    "connections": str(connection.CONNECTIONS),
    "a request's head": f"{connection.HEAD // 1024} KiB",
    "seconds for a TLS handshake": f"{http.HANDSHAKE:g}",
    "seconds in which something must move on a connection": f"{connection.PATIENCE:g}",
    "passwords of one address that wait to be checked": str(turns.PLACES),
    "passwords that wait in all, where a second of an address waits": str(turns.WAITING),
    "addresses whose passwords wait": str(turns.ORIGINS),
}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables between a heading and the next."""
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines]


def services(file: str) -> dict[str, dict[str, Any]]:
    """Return the services of a file of deploy/."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / file).read_text())["services"]
    return found


def test_limits_are_those_of_the_code() -> None:
    """Each limit that is told has the value that the code has, and none of the table is left out."""
    told = {row[0]: row[1] for row in rows("Hostile input") if re.match(r"\d", row[1])}
    assert {yamlfile._LARGEST, tls._LARGEST, root._LARGEST} == {MIB}
    together = {"a YAML file, a certificate, a file of the daemon's configuration": "1 MiB"}
    assert told == LIMITS | together


@pytest.mark.parametrize("tier", ["kernel", "sandboxes"])
def test_rights_are_those_of_deploy(tier: str) -> None:
    """The capabilities of a tier in the threat model are those that compose gives it, and it runs as root for them."""
    (row,) = [row for row in rows("With the exporter's process") if row[0] == f"`{tier}`"]
    service = services("compose/compose.yaml")[f"exporter-{tier}"]
    assert (row[1], service["user"]) == ("root", "0:0")
    assert set(re.findall(r"`(\w+)`", row[2])) == set(service["cap_add"])
    assert set(service["cap_drop"]) == {"ALL"}
    assert service["read_only"] is True
    assert service["pid"] == "host"
    assert ("network_mode" in service) == ("**the host's network**" in row[3])


def test_the_least_tier_has_none() -> None:
    """The tier api has no capability, no namespace of the host, and the user that the image names."""
    service = services("compose/compose.yaml")["exporter"]
    assert not {"cap_add", "network_mode", "pid", "user", "privileged"} & set(service)
    assert "USER 65532:65532" in (ROOT / "Dockerfile").read_text()
    (row,) = [row for row in rows("With the exporter's process") if row[0] == "`api`"]
    assert row[1:3] == ["65532", "none"]


def test_only_the_proxies_have_the_socket() -> None:
    """In compose and swarm the engine's socket is in proxies alone, and these have no network to be reached by."""
    for file in ("compose/compose.yaml", "swarm/stack.yml"):
        for name, service in services(file).items():
            holds = any("/var/run/docker.sock" in str(volume) for volume in service.get("volumes", ()))
            assert holds == name.endswith("-proxy"), name
            assert not holds or service.get("network_mode") == "none" or service["networks"] == ["nobody"], name


def test_paths_are_those_of_the_proxies() -> None:
    """What the threat model says that the manager's proxy shows is its allow-list; the first shows five paths."""
    (row,) = [row for row in rows("With the socket proxy") if "second proxy" in row[0]]
    command = " ".join(services("swarm/stack.yml")["discovery-proxy"]["command"])
    (allowed,) = re.findall(r"-allowGET=\S*\)\?/\(([^)]*)\)", command)
    assert set(re.findall(r"`/(\w+)`", row[1])) == set(allowed.split("|"))
    assert len(re.findall(r"\(\?:([a-z/|]+)\)", client.ALLOWED.pattern)[0].split("|")) == 5
    assert "`GET` on five paths" in TEXT


def test_the_exposed_addresses_are_those_of_the_files() -> None:
    """Where strangers find the exporter by default, and in the tiers with evidence from the kernel."""
    assert Config().listen_addresses == (":10422",)
    assert "`:10422`, on every interface" in TEXT
    environment = services("compose/compose.yaml")["exporter-kernel"]["environment"]
    assert environment["ICC_EXPORTER_WEB_LISTEN_ADDRESS"] == "${MONITORING_GATEWAY:-172.31.250.1}:10422"
    assert "`172.31.250.1:10422`" in TEXT
    assert door._METHODS == ("GET", "HEAD")
    assert "any method but `GET` and `HEAD` is refused" in TEXT


def test_nothing_is_kept_that_is_called_never_kept() -> None:
    """Of a container with everything an engine tells, what is named as dropped is dropped, and the rest is kept."""
    dropped = {
        "Image": "x", "ImageID": "x", "Command": "x --password=x", "Mounts": [{"Source": "x"}], "Env": ["X=x"],
        "Config": {"Env": ["X=x"]}, "Labels": {"tenant": "a", "secret": "x"},
    }  # fmt: skip
    kept = {"Id": "1", "Names": ["/a"], "State": "running", "Status": "Up", "HostConfig": {"NetworkMode": "bridge"}}
    (container,) = documents.containers(["tenant"]).keep([dropped | kept])
    assert container == kept | {"Labels": {"tenant": "a"}}
    (network,) = documents.NETWORKS.keep([{"Name": "n", "Labels": {"secret": "x"}, "Options": {"any": "x"}}])
    assert network == {"Name": "n", "Options": {"any": "x"}}
    assert "**all options of the driver**" in TEXT


def test_everything_kept_of_containers_and_networks_is_told() -> None:
    """A field that is kept anew cannot come without a word in the table."""
    fields = set(documents._CONTAINER.fields) | set(documents.NETWORKS.shape.fields)  # type: ignore[union-attr]
    assert fields == {
        "Id", "Names", "State", "Status", "Ports", "HostConfig", "NetworkSettings",
        "Name", "Driver", "Scope", "Internal", "Attachable", "Ingress", "EnableIPv4", "EnableIPv6", "Options",
        "ConfigOnly", "ConfigFrom", "IPAM",
    }  # fmt: skip


def test_no_path_has_an_effect() -> None:
    """The application routes GET alone, and none of its code can reach the engine, the kernel or a program."""
    source = (ROOT / "exporter" / "publish" / "web.py").read_text()
    assert "methods=" not in source
    assert not re.search(r"exporter\.(observe|runtime)|subprocess|socket", source)


def test_links_lead_somewhere() -> None:
    """Every file that SECURITY.md links to or names is there, and so is every heading."""
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, anchor = target.partition("#")
        content = (ROOT / file).read_text() if file else TEXT
        anchors = {
            re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in content.splitlines()
            if line.startswith("#")
        }
        assert not anchor or anchor in anchors, target
    for name in re.findall(r"`((?:docs|deploy|tests|\.github|requirements)[\w./-]*)`", TEXT):
        assert (ROOT / name).exists(), name
