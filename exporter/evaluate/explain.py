"""Why a pair is reachable, blocked or unknown, in the words of Docker's configuration."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from exporter.errors import UnknownContainer
from exporter.evaluate.declared.layer2 import openness
from exporter.evaluate.declared.topology import FAMILIES, Topology, bridge_gateway
from exporter.model.explanation import Explanation, Finding
from exporter.model.ports import PortSet
from exporter.model.report import HOST, PairVerdict, Path, Protocol, Verdict, Via

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.report import ContainerSummary, Report
    from exporter.model.snapshot import Network, PublishedPort, Sandbox, Snapshot

_OPENED_BY = {
    Via.SAME_SANDBOX: "both live in one network namespace: no firewall lies between them",
    Via.BRIDGE: "both are on network {network}, which lets its containers talk to each other",
    Via.LINK: "a legacy link on network {network} opens the exposed ports of the linked container",
    Via.MACVLAN: "both are on macvlan network {network}: the parent interface switches between them, past any firewall",
    Via.IPVLAN: "both are on ipvlan network {network}: the parent interface passes between them, past any firewall",
    Via.OVERLAY: "both are on overlay network {network}, which filters nothing",
    Via.PLUGIN: "both are on network {network}",
    Via.ROUTED: "the engine lets other bridges reach this address on network {network}",
    Via.HOST: "a process in the host's namespace is not filtered by the engine",
    Via.PUBLISHED_PORT: "a published port leads from the host's address to the container on network {network}",
}


def explain(
    snapshot: Snapshot,
    report: Report,
    source: str,
    destination: str,
    protocol: Protocol | None = None,
    port: int | None = None,
) -> Explanation:
    """Return why one container reaches another, or not.

    Containers are given by name, id or unique beginning of an id; `protocol` and `port` narrow the question.
    Raises UnknownContainer.
    """
    first, second = find(report, source), find(report, destination)
    if first is second:
        raise UnknownContainer(f"{source!r} and {destination!r} are the same container: a pair needs two")
    verdict = report.pair(first, second)
    paths = tuple(_narrowed(verdict.paths, protocol, port))
    findings = [*_openings(paths, protocol), *_obstacles(Topology.of(snapshot), first, second, verdict)] or [
        Finding(f"{first.name} has no way to any address of {second.name}", opens=False)
    ]
    return Explanation(first, second, _answer(paths, protocol), paths, tuple(findings))


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


def _narrowed(paths: tuple[Path, ...], protocol: Protocol | None, port: int | None) -> Iterator[Path]:
    for path in paths:
        if protocol not in (None, path.protocol):
            continue
        if port is None:
            yield path
        elif path.protocol is not Protocol.ICMP and port in path.ports:
            yield replace(path, ports=PortSet.of(port))


def _answer(paths: tuple[Path, ...], protocol: Protocol | None) -> Verdict:
    """Return the verdict of the paths. Echo decides nothing about a pair, but everything where it is asked for."""
    if protocol is not Protocol.ICMP:
        return PairVerdict(paths).verdict
    if any(not path.undecided for path in paths):
        return Verdict.REACHABLE
    return Verdict.UNKNOWN if paths else Verdict.BLOCKED


def _openings(paths: tuple[Path, ...], asked: Protocol | None) -> Iterator[Finding]:
    carrying = [path for path in paths if path.protocol is not Protocol.ICMP or asked is Protocol.ICMP]
    if paths and not carrying:
        yield Finding("ICMP echo passes, TCP and UDP do not")
    seen: dict[tuple[Via, str | None, str], None] = dict.fromkeys(
        (path.via, path.network, path.undecided) for path in carrying
    )
    for via, network, undecided in seen:
        text = _OPENED_BY[via].format(network=network)
        if undecided:
            yield Finding(f"perhaps {text}; not known: {undecided}")
        else:
            yield Finding(text, opens=True)


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
    elif source.endpoints and verdict.verdict is Verdict.BLOCKED:
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
    if any(link.child == source.id for link in topology.links.get(destination.id, ())) and source.exposed:
        ports = ", ".join(f"{port.port}/{port.protocol}" for port in source.exposed)
        yield Finding(
            f"the link's rule for answers lets {source.name} open connections to any port of {destination.name} "
            f"if it sends them from source port {ports}"
        )


def _between_networks(topology: Topology, source: Sandbox, destination: Sandbox) -> Iterator[Finding]:
    for family in FAMILIES:
        has_family = any(endpoint.address(family) for endpoint in source.endpoints)
        if has_family and topology.route(source, family) is None:
            yield Finding(f"{source.name} has no IPv{family} default route: it reaches its own networks only")
    if not destination.published and not destination.routed:
        yield Finding(f"{destination.name} publishes no port")


def _closed_ports(topology: Topology, source: Sandbox, destination: Sandbox, verdict: PairVerdict) -> Iterator[Finding]:
    """Yield why published ports of the destination lead the source nowhere."""
    open_ports = {
        (path.protocol, port) for path in verdict.paths if path.via is Via.PUBLISHED_PORT for port in path.ports
    }
    closed: dict[str, list[PublishedPort]] = defaultdict(list)
    for port in destination.published:
        if (port.protocol, port.host_port) not in open_ports:
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
