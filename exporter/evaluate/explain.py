"""Why a pair is reachable, blocked or unknown, in the words of Docker's configuration."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from exporter.errors import UnknownContainer
from exporter.evaluate.declared.layer2 import openness
from exporter.evaluate.declared.topology import FAMILIES, Topology, bridge_gateway
from exporter.evaluate.trips import carries, each_way, trips
from exporter.model.addresses import is_link_local
from exporter.model.explanation import Explanation, Finding, Question
from exporter.model.ports import PortSet
from exporter.model.reach import HOST, PairVerdict, Path, Protocol, Verdict, Via

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model.addresses import Address
    from exporter.model.explanation import Trip
    from exporter.model.report import ContainerSummary, Report
    from exporter.model.snapshot import Network, PublishedPort, Sandbox, Snapshot

_OPENED_BY = {
    Via.SAME_SANDBOX: "both live in one network namespace: no firewall lies between them",
    Via.BRIDGE: "both are on network {network}, which lets its containers talk to each other",
    Via.LINK: "a legacy link on network {network} opens the exposed ports of the linked container",
    Via.MACVLAN: "both are on macvlan network {network}: its parent passes between them, by its own rules alone",
    Via.IPVLAN: "both are on ipvlan network {network}: the parent interface passes between them, past any firewall",
    Via.OVERLAY: "both are on overlay network {network}, which filters nothing",
    Via.PLUGIN: "both are on network {network}",
    Via.ROUTED: "the host lets other bridges reach this address on network {network}",
    Via.HOST: "a process in the host's namespace is not filtered by the engine",
    Via.PUBLISHED_PORT: "a published port leads from the host's address to the container on network {network}",
}

_OFF_NETWORKS = {
    Via.BRIDGE: "both are on one link that is no network of the engine's",
    Via.ROUTED: "this address, which is on no network of the engine's, is one that packets are passed on to",
    Via.PUBLISHED_PORT: "a translation leads from another address to the container",
}


def explain(
    snapshot: Snapshot,
    report: Report,
    source: str,
    destination: str,
    protocol: Protocol | None = None,
    port: int | None = None,
    address: Address | None = None,
) -> Explanation:
    """Return why one container reaches another, or not.

    Containers are given by name, id or unique beginning of an id; `protocol`, `port` and `address` narrow the question.
    Where the kernel could be read, packets are followed through its rules. Raises UnknownContainer.
    """
    first, second = find(report, source), find(report, destination)
    if first is second:
        raise UnknownContainer(f"{source!r} and {destination!r} are the same container: a pair needs two")
    asked = Question(protocol, port, address)
    paths = tuple(_narrowed(report.pair(first, second).paths, asked))
    followed = trips(snapshot, first, second, asked, paths) if report.declared is not None else ()
    findings = tuple(_findings(snapshot, report, first, second, asked, followed))
    answer = _answer(paths, protocol) if paths or address is None else _answer_beside(report, address, followed)
    return Explanation(first, second, answer, paths, findings, followed)


def _findings(
    snapshot: Snapshot,
    report: Report,
    first: ContainerSummary,
    second: ContainerSummary,
    asked: Question,
    followed: Sequence[Trip],
) -> Iterator[Finding]:
    """Yield what opens and what blocks; where the kernel and the configuration disagree, what the latter says apart."""
    verdict = report.pair(first, second)
    topology = Topology.of(snapshot)
    target = snapshot.sandboxes[second.sandbox]
    paths = tuple(_narrowed(verdict.paths, asked))
    openings = list(_openings(snapshot, target, paths, asked, followed))
    if not paths and asked.address is not None:
        openings += _openings_beside(report, asked.address, followed)
    promised = verdict if report.declared is None else report.declared.between(first.sandbox, second.sandbox)
    if promised.verdict is verdict.verdict:
        obstacles = list(_obstacles(topology, first, second, verdict))
        yield from [*openings, *obstacles] or [_no_way(first, second)]
        return
    yield from openings or [Finding("the kernel lets nothing through", opens=False)]
    yield Finding(f"the configuration promises otherwise: {promised.verdict}")
    configured = _openings(snapshot, target, tuple(_narrowed(promised.paths, asked)), asked)
    for finding in (*configured, *_obstacles(topology, first, second, promised)):
        yield Finding(f"configured: {finding.text}")


def _no_way(first: ContainerSummary, second: ContainerSummary) -> Finding:
    return Finding(f"{first.name} has no way to any address of {second.name}", opens=False)


def find(report: Report, key: str) -> ContainerSummary:
    """Return the container with this name, id or unique beginning of an id. Raises UnknownContainer."""
    named = [container for container in report.containers if key.removeprefix("/") == container.name]
    matching = named or [container for container in report.containers if key and container.id.startswith(key)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UnknownContainer(f"{key!r} is the beginning of {len(matching)} container ids: give more of it")
    near = get_close_matches(key, [container.name for container in report.containers])
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    raise UnknownContainer(f"no running container is called {key!r}{hint}")


def _narrowed(paths: tuple[Path, ...], asked: Question) -> Iterator[Path]:
    for path in paths:
        if asked.protocol not in (None, path.protocol):
            continue
        if asked.address is not None:
            if str(asked.address) not in path.addresses:
                continue
            path = replace(path, addresses=(str(asked.address),))  # noqa: PLW2901
        if asked.port is None:
            yield path
        elif path.protocol is not Protocol.ICMP and asked.port in path.ports:
            yield replace(path, ports=PortSet.of(asked.port))


def _answer(paths: tuple[Path, ...], protocol: Protocol | None) -> Verdict:
    """Return the verdict of the paths. Echo decides nothing about a pair, but everything where it is asked for."""
    if protocol is not Protocol.ICMP:
        return PairVerdict(paths).verdict
    if any(not path.undecided for path in paths):
        return Verdict.REACHABLE
    return Verdict.UNKNOWN if paths else Verdict.BLOCKED


def _answer_beside(report: Report, address: Address, followed: Sequence[Trip]) -> Verdict:
    """Return the verdict of an address that stands in no path: others there may stand for it, as for link-local ones.

    Then it is that of the packets that were followed to it. The API alone does not tell who has a link-local one.
    """
    if report.declared is None:
        return Verdict.UNKNOWN if is_link_local(int(address)) else Verdict.BLOCKED
    found = {trip.verdict for trip in followed}
    return next((each for each in (Verdict.REACHABLE, Verdict.UNKNOWN) if each in found), Verdict.BLOCKED)


def _openings_beside(report: Report, address: Address, followed: Sequence[Trip]) -> Iterator[Finding]:
    """Yield what is said of such an address that is open, or may be."""
    answer = _answer_beside(report, address, followed)
    if report.declared is None and answer is Verdict.UNKNOWN:
        yield Finding(f"not known: who has {address}, as the API does not tell link-local addresses")
    elif answer is Verdict.REACHABLE:
        yield Finding(f"{address} leads no further than those that stand for it in the pair's paths", opens=True)
    elif answer is Verdict.UNKNOWN:
        yield Finding(f"perhaps {address} leads as far as those that stand for it in the pair's paths")


def _openings(
    snapshot: Snapshot, target: Sandbox, paths: tuple[Path, ...], asked: Question, followed: Sequence[Trip] = ()
) -> Iterator[Finding]:
    """Yield what opens a way; `followed` are packets that tell which rule it is that leads elsewhere."""
    ways = each_way(snapshot, target, paths, asked)
    if paths and not ways:
        yield Finding("ICMP echo passes, TCP and UDP do not")
    found: dict[Finding, None] = {}
    for path in ways:
        text = _opening(path, next((trip.led_by for trip in followed if carries(path, trip.packet)), ""))
        if path.undecided:
            found[Finding(f"perhaps {text}; not known: {path.undecided}")] = None
        else:
            found[Finding(text, opens=True)] = None
    yield from found


def _opening(path: Path, led_by: str) -> str:
    if path.via is Via.PUBLISHED_PORT and led_by:
        there = f" on network {path.network}" if path.network else ""
        return f"{led_by} leads from another address or port to the container{there}"
    if path.network or path.via not in _OFF_NETWORKS:
        return _OPENED_BY[path.via].format(network=path.network)
    return _OFF_NETWORKS[path.via]


def _obstacles(
    topology: Topology, first: ContainerSummary, second: ContainerSummary, verdict: PairVerdict
) -> Iterator[Finding]:
    """Yield what stands between two sandboxes, whether or not something else opens the pair."""
    sandboxes = topology.snapshot.sandboxes
    source, destination = sandboxes[first.sandbox], sandboxes[second.sandbox]
    if source is destination:
        return
    for container, sandbox in ((first, source), (second, destination)):
        if sandbox.id != HOST and not sandbox.endpoints:
            yield Finding(_without_network(container, sandbox), opens=False)
    shared = _shared(topology, source, destination)
    for network in shared:
        yield from _closed_network(topology, network, source, destination)
    if source.id == HOST:
        yield from _out_of_the_hosts_reach(topology, destination)
        yield from _closed_ports(topology, source, destination, verdict)
    elif source.endpoints and destination.endpoints:
        if not shared:
            yield Finding(f"{first.name} and {second.name} share no network", opens=False)
        yield from _between_networks(topology, source, destination)
        yield from _closed_ports(topology, source, destination, verdict)
    elif source.endpoints and destination.id == HOST and verdict.verdict is Verdict.BLOCKED:
        yield Finding(f"{first.name} has no way to an address of the host", opens=False)


def _out_of_the_hosts_reach(topology: Topology, destination: Sandbox) -> Iterator[Finding]:
    for endpoint in destination.endpoints:
        network = topology.network(endpoint.network_id)
        if network.driver in ("macvlan", "ipvlan"):
            yield Finding(f"the host cannot talk to {network.driver} network {network.name} on its parent", opens=False)
        elif network.driver == "overlay" and network.internal:
            yield Finding(f"overlay network {network.name} is internal: the host is not on it", opens=False)
        elif network.driver == "bridge" and bridge_gateway(network, 4) is bridge_gateway(network, 6) is None:
            yield Finding(f"the host has no address on network {network.name}", opens=False)


def _without_network(container: ContainerSummary, sandbox: Sandbox) -> str:
    if sandbox.orphaned:
        return f"{container.name} was left behind in a namespace that lost its network: restart it to join again"
    return f"{container.name} is on no network"


def _shared(topology: Topology, source: Sandbox, destination: Sandbox) -> list[Network]:
    mine = {endpoint.network_id for endpoint in source.endpoints}
    return [topology.network(endpoint.network_id) for endpoint in destination.endpoints if endpoint.network_id in mine]


def _closed_network(topology: Topology, network: Network, source: Sandbox, destination: Sandbox) -> Iterator[Finding]:
    for family in FAMILIES:
        ends = (topology.address_on(sandbox, network, family) for sandbox in (source, destination))
        if all(ends) and openness(topology, network, family) is None:
            cause = "enable_icc=false" if network.driver == "bridge" else f"mode {network.mode or network.flag}"
            yield Finding(f"network {network.name} keeps its containers apart over IPv{family} ({cause})", opens=False)
    if network.default and network.icc is False:
        yield from _reverse_link(topology, source, destination)


def _reverse_link(topology: Topology, source: Sandbox, destination: Sandbox) -> Iterator[Finding]:
    """Yield that the rule for a link's answers matches whatever comes from the exposed port (moby, link.go)."""
    opened = {port for link in topology.links.get(destination.id, ()) if link.child == source.id for port in link.ports}
    if opened:
        ports = ", ".join(f"{port.port}/{port.protocol}" for port in sorted(opened))
        yield Finding(
            f"the link's rule for answers lets {source.name} open connections to any port of {destination.name} "
            f"if it sends them from source port {ports}"
        )


def _between_networks(topology: Topology, source: Sandbox, destination: Sandbox) -> Iterator[Finding]:
    for family in FAMILIES:
        has_family = any(endpoint.address(family) for endpoint in source.endpoints)
        if has_family and topology.route(source, family) is None:
            yield Finding(f"{source.name} has no IPv{family} default route to the host: it stays on its own networks")
    if not destination.published and not destination.routed:
        yield Finding(f"{destination.name} publishes no port")


def _closed_ports(topology: Topology, source: Sandbox, destination: Sandbox, verdict: PairVerdict) -> Iterator[Finding]:
    """Yield why published ports of the destination lead the source nowhere."""
    led = [path for path in verdict.paths if path.via is Via.PUBLISHED_PORT]
    closed: dict[str, list[PublishedPort]] = defaultdict(list)
    for port in destination.published:
        if not any(path.protocol == port.protocol and port.host_port in path.ports for path in led):
            closed[_why_closed(topology, source, port)].append(port)
    for reason, ports in closed.items():
        bindings = ", ".join(f"{port.host_ip}:{port.host_port}/{port.protocol}" for port in ports)
        yield Finding(f"published port {bindings} does not help: {reason}", opens=False)


def _why_closed(topology: Topology, source: Sandbox, port: PublishedPort) -> str:
    family = port.host_ip.version
    ingress = topology.route(source, family)
    if port.host_ip.is_loopback:
        return "it is bound to the host's loopback, where only the host itself can go"
    if ingress is None or ingress.driver != "bridge":
        return f"{source.name} has no way to an IPv{family} address of the host"
    if not ingress.masquerade:
        return f"network {ingress.name} is not masqueraded, so the engine's rules drop the packet or its answer"
    if topology.behaviour.proxy_options == (False,):
        return "docker-proxy is off, and the engine's rules drop what they rewrite to another network or a closed one"
    return "nothing leads from the port to an address of the container"
