"""A link that outlives its container, on real engines: what the API alone can tell of it."""

from __future__ import annotations

import pytest

from tests.cli.service import ANY_PORT, service
from tests.lab import VERSIONS, engine
from tests.lab.packets import measure

pytestmark = pytest.mark.lab

UNKNOWN = "docker_icc_unknown_pairs"
SOON = 5.0


@pytest.mark.parametrize("version", VERSIONS)
def test_the_address_of_a_linked_container_goes_to_another(version: str) -> None:
    """Engines leave the rule to whoever gets the address; who watched all the time does not call that blocked."""
    with (
        engine(version, "--icc=false") as made,
        service(ANY_PORT, "--evidence.max=api", "--poll.interval=1m", f"--docker.host={made.host}") as exporter,
    ):
        made.run("db", "--expose=80")
        made.run("web", "--link=db")
        exporter.seconds_until(lambda samples: samples.get("reachable_pairs_total") == 1, SOON)
        made.docker("rm", "--force", "db")
        exporter.seconds_until(lambda samples: samples["docker_icc_containers"] == 1, SOON)
        made.run("other")
        exporter.seconds_until(lambda samples: samples["docker_icc_containers"] == 2, SOON)
        assert (exporter.samples()["reachable_pairs_total"], exporter.samples()[UNKNOWN]) == (1, 1)
        address = made.api("/containers/other/json")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        arrived = measure(made, [address], [80, 81]).between("web", "other")
    assert {(each.protocol, each.port) for each in arrived} == {("tcp", 80)}
