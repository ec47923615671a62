"""Two customers on one host: apart by their networks, and together again by a published port."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.cli.program import run
from tests.cli.service import ANY_PORT, service
from tests.lab import VERSIONS, Engine, engine
from tests.story.gauges import IN_TIME, POLL
from tests.story.truth import WEB_SERVER, visits

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.lab

CROSS = "docker_icc_cross_tenant_pairs"
RULE = 'docker_icc_policy_violations{rule="only-the-shop-reaches-its-web-server"}'
POLICY = """
rules:
  - name: only-the-shop-reaches-its-web-server
    why: it trusts whoever can connect
    deny:
      from: {not: {tenant: shop}}
      to: {label: {role: web}}
      protocol: tcp
      ports: 80
"""


def compose(made: Engine, project: str, service_name: str, *flags: str) -> None:
    """Start a container as Compose would: on the project's own network, labelled with its name."""
    made.run(
        f"{project}-{service_name}-1",
        f"--network={project}_default",
        f"--label=com.docker.compose.project={project}",
        f"--label=role={service_name}",
        "--label=password=hunter2",
        *flags,
        command=WEB_SERVER,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_tenants_meet_by_a_published_port(version: str, tmp_path: Path) -> None:
    """A port published for the world lets another customer in: gauge, policy and `check` say so until it is closed."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with (
        engine(version) as made,
        service(ANY_PORT, POLL, f"--docker.host={made.host}", f"--policy.file={policy}") as exporter,
    ):
        for project in ("shop", "bank"):
            made.docker("network", "create", f"{project}_default")
        compose(made, "bank", "app")
        compose(made, "shop", "web", "--publish=8080:80")
        door = made.api("/networks/bank_default")["IPAM"]["Config"][0]["Gateway"]

        assert visits(made, "bank-app-1", f"{door}:8080")
        exporter.seconds_until(lambda samples: (samples.get(CROSS), samples.get(RULE)) == (1, 1), IN_TIME)
        assert "hunter2" not in exporter.get("/api/v1/snapshot")
        done = run("check", DOCKER_HOST=made.host)
        assert (done.returncode, done.stderr) == (1, "")
        lines = done.stdout.splitlines()
        assert lines[:3] == [
            "- tenants-apart: violated by 1 of 2 pairs",
            "  why: containers of different tenants must not reach each other",
            "    bank-app-1 (bank) -> shop-web-1 (shop): reachable",
        ]
        assert lines[3].startswith("        published_port on shop_default: tcp 8080 at ")
        assert door in lines[3]
        assert "        - bank-app-1 and shop-web-1 share no network" in lines
        junit = run("check", "--policy.file", policy, "--format=junit", DOCKER_HOST=made.host)
        (case,) = ET.fromstring(junit.stdout).iter("testcase")
        assert (junit.returncode, case.get("name")) == (1, "only-the-shop-reaches-its-web-server")
        assert "bank-app-1 (bank) -> shop-web-1 (shop): reachable" in (case.findtext("failure") or "")

        made.docker("rm", "--force", "shop-web-1")
        compose(made, "shop", "web")
        assert not visits(made, "bank-app-1", f"{door}:8080")
        exporter.seconds_until(lambda samples: (samples.get(CROSS), samples.get(RULE)) == (0, 0), IN_TIME)
        done = run("check", DOCKER_HOST=made.host)
        assert (done.returncode, done.stdout, done.stderr) == (
            0,
            "+ tenants-apart: holds for 2 pairs\nbuilt-in policy: no violation\n",
            "",
        )
        assert run("check", "--policy.file", policy, DOCKER_HOST=made.host).returncode == 0
