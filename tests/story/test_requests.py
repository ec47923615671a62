"""What an engine is asked, written down by a proxy before a real one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cli.service import ANY_PORT, service
from tests.lab import VERSIONS, engine
from tests.lab.system import wait_until
from tests.story.engine_proxy import EngineProxy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.lab

ALLOWED = re.compile(r"GET (/v1\.\d+)?/(version|info|networks|containers/json|events)(\?\S*)?")
POLLS = 'docker_icc_exporter_polls_total{result="ok"}'


@pytest.mark.parametrize("version", VERSIONS)
def test_a_poll_is_two_requests(version: str, tmp_path: Path) -> None:
    """Once the exporter runs it asks for containers and networks, poll after poll, and for nothing else.

    Before, it asks who the engine is, and for its events; all that it ever sends is GET and in the list of paths.
    """
    with engine(version) as made, EngineProxy(tmp_path / "proxy.sock", made.socket) as proxy:
        made.run("web")
        with service(ANY_PORT, "--poll.interval=1s", f"--docker.host={proxy.url}") as exporter:
            exporter.seconds_until(lambda samples: samples.get("docker_icc_containers") == 1, 15)
            assert wait_until(lambda: any("/events" in each for each in proxy.requests), 15)
            # what the beginning of that stream hints at is over
            exporter.seconds_until(lambda samples: samples[POLLS] >= 4, 15)
            begun, polls = len(proxy.requests), exporter.samples()[POLLS]
            exporter.seconds_until(lambda samples: samples[POLLS] >= polls + 5, 15)
            ended, polls = len(proxy.requests), exporter.samples()[POLLS] - polls
    asked = [each.rpartition("/v1.")[2].partition("/")[2] for each in proxy.requests[begun:ended]]
    assert asked[::2] == [asked[0]] * len(asked[::2])
    assert asked[1::2] == [asked[1]] * len(asked[1::2])
    assert {asked[0], asked[1]} == {"containers/json", "networks"}
    # a poll may be on its way at either end
    assert abs(len(asked) - 2 * polls) <= 2
    assert [each for each in proxy.requests if not ALLOWED.fullmatch(each)] == []
