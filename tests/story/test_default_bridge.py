"""A web server on the default bridge, before and after --icc=false, and with a link."""

from __future__ import annotations

import pytest

from exporter.evaluate import evaluate
from exporter.observe.tier import Tier
from exporter.parse import parse
from tests.cli.service import ANY_PORT, service
from tests.conformance.runner import observe
from tests.lab import HOST, VERSIONS, Engine, engine
from tests.story.gauges import IN_TIME, POLL, compare, withdrawn
from tests.story.truth import WEB_SERVER, visits

pytestmark = pytest.mark.lab


def address_of(made: Engine, container: str) -> str:
    """Return a container's address on the default bridge."""
    return str(made.api(f"/containers/{container}/json")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_story_of_the_default_bridge(version: str) -> None:
    """Open, then closed by --icc=false, then pierced by a link on one port, then closed again as the link's ends go."""
    with engine(version) as made, service(ANY_PORT, POLL, f"--docker.host={made.host}") as exporter:
        made.run("web", "--expose=80", command=WEB_SERVER)
        made.run("client")
        web = address_of(made, "web")
        assert visits(made, "client", web)
        compare(exporter, made, icc=1, bridge=2)

        made.stop()
        exporter.seconds_until(withdrawn, IN_TIME)
        made.start("--icc=false")
        for name in ("web", "client"):
            made.docker("start", name)
        assert not visits(made, "client", web)
        closed = compare(exporter, made, icc=0)
        assert ("icmp", 0) in closed.between(HOST, "web")

        made.run("app", "--link=web")
        assert visits(made, "app", "web")
        assert not visits(made, "client", web)
        linked = compare(exporter, made, icc=0, link=1)
        assert linked.between("app", "web") == {("tcp", 80)}
        assert linked.between("web", "app") == set()

        made.docker("stop", "web")
        compare(exporter, made, icc=0)
        made.docker("start", "web")
        # the link's rule is still there for the old address, which the API does not show: it is the same here
        assert visits(made, "app", "web")
        compare(exporter, made, icc=0, link=1, undecided=1)

        # without this, the engine forgets to remove that rule, and whoever gets the address inherits it (moby#24043)
        made.docker("restart", "app")
        made.docker("stop", "app")
        compare(exporter, made, icc=0)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_forgotten_link_is_an_assumption(version: str) -> None:
    """Engines leave a link's rule behind (moby#24043): the API's report says what it assumes, the kernel's knows it."""
    with engine(version, "--icc=false") as made:
        made.run("web", "--expose=80", command=WEB_SERVER)
        made.run("app", "--link=web")
        address = address_of(made, "app")
        made.docker("restart", "web")
        made.docker("stop", "app")
        made.run("newcomer")
        assert address_of(made, "newcomer") == address
        assert visits(made, "newcomer", address_of(made, "web"))
        promised = evaluate(parse(observe(made, Tier.API)))
        assert promised.totals.reachable_pairs == 0
        assert any("no rule of a former link is left on bridge" in text for text in promised.assumptions)
        enforced = evaluate(parse(observe(made))).totals
        assert (enforced.reachable_pairs, enforced.drift_open, enforced.drift_closed) == (1, 1, 0)
