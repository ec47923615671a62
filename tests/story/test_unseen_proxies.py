"""Engines whose docker-proxies the exporter does not see, or cannot tell from another engine's: packets judge."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate.enforced.listening import UNSEEN
from tests.cli.program import COMMAND, environment
from tests.lab import Engine, engine
from tests.story.truth import truth

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

PORT = 18_424
"""One that no other test publishes: docker-proxies of all engines are seen here."""

BLIND = ("unshare", "--pid", "--fork", "--mount-proc", "--")
UNPRIVILEGED = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", "--")


@pytest.fixture(scope="module")
def host() -> Iterator[Engine]:
    """Return an engine whose containers reach a published port of their bridge by docker-proxy alone."""
    with engine("28.5", "--icc=false") as made:
        made.run("web", f"--publish={PORT}:80")
        made.run("client")
        yield made


def verdict(host: Engine, *through: str) -> tuple[str, str]:
    """Return the verdict for client and web, and the reason, of an exporter that is started in some way."""
    options = ("report", "--format=json", "--evidence.max=kernel", f"--host.netns={host.netns}")
    command = [*through, *COMMAND, *options]
    done = subprocess.run(command, env=environment(DOCKER_HOST=host.host), capture_output=True, text=True, check=True)
    pairs = {(each["source"], each["destination"]): each for each in json.loads(done.stdout)["pairs"]}
    found = pairs.get(("client", "web"), {"verdict": "blocked", "reason": ""})
    return found["verdict"], found["reason"]


def test_what_is_seen_is_known(host: Engine) -> None:
    """Packets get there, and the verdict says so."""
    assert ("client", "web") in truth(host).pairs
    assert verdict(host) == ("reachable", "published_port on bridge")
    assert verdict(host, *UNPRIVILEGED) == ("reachable", "published_port on bridge")


def test_without_the_host_s_processes_it_is_unknown(host: Engine) -> None:
    """Nothing says that the socket of the port is docker-proxy's, and nothing that it is not."""
    assert verdict(host, *BLIND) == ("unknown", UNSEEN.format(port=PORT, protocol="tcp"))


def test_another_engine_s_docker_proxy_is_told_from_the_own(host: Engine) -> None:
    """By its network namespace; who may not look at that does not know which of the two has the socket."""
    with engine("28.5") as other:
        other.run("first")
        other.run("second", f"--publish={PORT}:80")
        assert verdict(host) == ("reachable", "published_port on bridge")
        assert verdict(host, *UNPRIVILEGED) == ("unknown", UNSEEN.format(port=PORT, protocol="tcp"))
