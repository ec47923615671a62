"""Which rights each tier needs: all are taken away and given back one by one, on a real engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.rules import DEPLOY
from tests.image.build import KERNEL_IMAGE
from tests.lab import Engine, engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

KERNEL = {"api", "firewall", "bridge", "routes"}

NEEDED = [
    ("kernel", "", KERNEL - {"firewall"}),
    ("kernel", "NET_ADMIN", KERNEL),
    ("sandboxes", "NET_ADMIN", KERNEL),
    ("sandboxes", "NET_ADMIN SYS_PTRACE", KERNEL),
    ("sandboxes", "NET_ADMIN SYS_ADMIN", KERNEL),
    ("sandboxes", "NET_ADMIN SYS_ADMIN SYS_PTRACE", KERNEL | {"sandboxes"}),
]


@pytest.fixture(scope="module")
def host(saved: Path) -> Iterator[Engine]:
    """Return an engine with the image for the kernel, and a container of another user's."""
    with engine("28.5") as made:
        made.docker("load", f"--input={saved}")
        made.run("web", "--publish=8080:80")
        yield made


def snapshot(made: Engine, tier: str, capabilities: str) -> dict[str, Any]:
    """Return what a container with so few rights sees."""
    rights = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host", "--pid=host"]
    rights += [f"--cap-add={name}" for name in capabilities.split()]
    command = ["run", "--rm", "--user=0:0", *rights, f"--volume={made.socket}:/var/run/docker.sock:ro", KERNEL_IMAGE]
    found: dict[str, Any] = json.loads(made.docker(*command, "snapshot", f"--evidence.max={tier}"))
    return found


def evidence(made: Engine, tier: str, capabilities: str) -> set[str]:
    """Return the sources that such a container can read, in whole."""
    found = snapshot(made, tier, capabilities)
    missing = {source.partition("/")[0] for source in found["kernel"]["missing"]}
    return {"api", "firewall", "bridge", "routes", "sandboxes"} - missing


@pytest.mark.parametrize(("tier", "capabilities", "sources"), NEEDED)
def test_a_capability_less_is_evidence_less(tier: str, capabilities: str, sources: set[str], host: Engine) -> None:
    """Each tier's capabilities give what the tier promises, and none of them can be left out."""
    assert evidence(host, tier, capabilities) == sources


@pytest.mark.parametrize(
    ("tier", "capabilities", "read"),
    [
        ("kernel", "NET_ADMIN", False),
        ("kernel", "NET_ADMIN SYS_PTRACE", True),
        ("sandboxes", "NET_ADMIN SYS_ADMIN", False),
        ("sandboxes", "NET_ADMIN SYS_ADMIN SYS_PTRACE", True),
    ],
)
def test_what_is_pending_needs_ptrace(tier: str, capabilities: str, read: bool, host: Engine) -> None:
    """The daemon's configuration is read with one capability: the tier `kernel` as it is deployed does not have it."""
    missing = snapshot(host, tier, capabilities)["daemon"]["missing"]
    assert missing == "" if read else "CAP_SYS_PTRACE is needed" in missing


def test_legacy_rules_need_one_more(host: Engine) -> None:
    """iptables-legacy is asked over a raw socket."""
    host.on_host("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT")
    try:
        assert evidence(host, "kernel", "NET_ADMIN") == KERNEL - {"firewall"}
        assert evidence(host, "kernel", "NET_ADMIN NET_RAW") == KERNEL
    finally:
        host.on_host("iptables-legacy", "-F", "INPUT")


def test_the_page_says_the_same() -> None:
    """The table of deploy/README.md names the capabilities that were measured."""
    page = (DEPLOY / "README.md").read_text()
    for tier in ("kernel", "sandboxes"):
        needed = max((names for each, names, _ in NEEDED if each == tier), key=len)
        assert f"| `{tier}` | {', '.join(f'`{name}`' for name in needed.split())} |" in page
    assert "`docker_icc_config_pending_restart`" in page
    assert "`SYS_PTRACE`" in (DEPLOY.parent / "docs" / "runbooks" / "DockerIccRestartPending.md").read_text()
