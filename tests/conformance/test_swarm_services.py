"""A service of swarm that publishes a port, on a real engine: packets are the judge of all but IPVS.

Where the kernel has none, the engine sets up everything else for a service. What it then would write stands here, and
in the namespace `ingress_sbox` the list that such a kernel shows.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from exporter.evaluate import evaluate
from exporter.evaluate.enforced.unseen import SHARED_OUT
from exporter.model.reach import Protocol, Verdict, Via
from exporter.observe.tier import Tier
from exporter.parse import parse
from tests.conformance.generator import HOST_ADDRESS, Case
from tests.conformance.runner import Outcome, judge, measured, observing
from tests.lab import VERSIONS, Topology, start_engine
from tests.lab.engine import IMAGE
from tests.lab.system import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.observation import Observation
    from tests.lab import Engine

pytestmark = pytest.mark.lab

INGRESS = "$(mount | grep -o '/[^ ]*ingress_sbox')"
PUBLISHED = f"""
at=$(nsenter --net={INGRESS} ip -4 -brief address show eth1 | awk '{{print $3}}' | cut -d/ -f1)
iptables -t nat -N DOCKER-INGRESS
iptables -t nat -A DOCKER-INGRESS -p tcp -m tcp --dport 8080 -j DNAT --to-destination $at:8080
iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
iptables -t nat -I OUTPUT -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
iptables -N DOCKER-INGRESS
iptables -A DOCKER-INGRESS -p tcp -m tcp --dport 8080 -j ACCEPT
iptables -A DOCKER-INGRESS -p tcp -m tcp --sport 8080 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -I FORWARD 2 -j DOCKER-INGRESS
nsenter --net={INGRESS} iptables -t mangle -A PREROUTING -p tcp -m tcp --dport 8080 -j MARK --set-mark 0x100
"""
"""What an engine writes for `--publish 8080:80` (moby's daemon/libnetwork/service_linux.go)."""


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    """Have a task of a service and another container, and what packets do between them."""
    with closing(start_engine(VERSIONS[-1])) as engine, closing(observing(engine, Tier.SANDBOXES)) as observer:
        engine.docker("swarm", "init", f"--advertise-addr={HOST_ADDRESS}")
        engine.docker("network", "create", "other")
        engine.run("out", "--network=other")
        service = ("--name=web", "--publish=8080:80", "--detach", "--no-resolve-image", IMAGE, "sleep", "1000000")
        engine.docker("service", "create", *service)
        assert wait_until(lambda: bool(tasks(engine)), timeout=60, interval=0.5)
        engine.on_host("sh", "-ec", PUBLISHED)
        yield judge(measured(engine, observer, Case(engine.version, Topology()), ()))


def tasks(engine: Engine) -> list[str]:
    """Return the names of the service's containers that run."""
    return engine.docker("ps", "--filter=name=web.1", "--format={{.Names}}").split()


def test_without_ipvs_packets_end_where_swarm_shares_them_out(outcome: Outcome) -> None:
    """`ingress_sbox` is on the network of the tasks and of the host, and verdicts about it are what packets do."""
    assert outcome.enforced.disagreements == ()
    assert outcome.enforced.doubts == frozenset()
    assert outcome.unlike == ()


def test_with_ipvs_a_published_port_may_lead_to_the_task(outcome: Outcome) -> None:
    """Whoever reaches an address of the host may reach the task by it, and not the other way round."""
    observation = outcome.truth.observation
    assert observation.kernel is not None
    (name,) = (each for each in observation.kernel.bystanders if "ingress_sbox" in each)
    task = next(each for each in observation.containers if each["Names"][0].startswith("/web.1"))
    address = IPv4Address(task["NetworkSettings"]["Networks"]["ingress"]["IPAddress"])
    listed = f"FWM  00000100 rr\n  -> {int(address):08X}:0000 Masq\n"
    inside = replace(observation.kernel.bystanders[name], ipvs=listed)
    read = replace(observation.kernel, bystanders={**observation.kernel.bystanders, name: inside})
    assert undecided(replace(observation, kernel=read)) == "IPVS"


def test_unread_it_may_lead_to_the_task_as_well(outcome: Outcome) -> None:
    """In the tier `kernel`, `ingress_sbox` is a port of a bridge that is nobody's."""
    observation = outcome.truth.observation
    assert observation.kernel is not None
    missing = dict.fromkeys(("sandboxes", "bystanders"), "the tier is kernel")
    unread = replace(observation.kernel, bystanders={}, sandboxes={}, missing=missing)
    assert undecided(replace(observation, kernel=unread)) == SHARED_OUT


def undecided(observation: Observation) -> str:
    """Return why it is not known whether the task is reached by the published port; nobody is reached by the task."""
    report = evaluate(parse(observation))
    ends = {each.name.partition(".")[0]: each for each in report.containers}
    there, back = report.pair(ends["out"], ends["web"]), report.pair(ends["web"], ends["out"])
    assert (there.verdict, back.verdict) == (Verdict.UNKNOWN, Verdict.BLOCKED)
    (path,) = there.paths
    assert (path.via, path.network) == (Via.PUBLISHED_PORT, "ingress")
    assert (path.protocol, str(path.ports)) == (Protocol.TCP, "8080")
    return path.undecided
