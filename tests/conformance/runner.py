"""Builds a case on a real engine, asks the exporter and the packets, and compares."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from exporter.evaluate import evaluate
from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from exporter.parse import parse
from tests.conformance.compare import Comparison, Probe, compare
from tests.conformance.generator import HOST_ADDRESS, PORTS, Case
from tests.lab import HOST, Engine, build, measure, ports_in_use, start_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.model.observation import Observation
    from exporter.model.report import Report
    from exporter.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case."""

    case: Case
    observation: Observation
    report: Report
    comparison: Comparison


def run_case(case: Case) -> Outcome:
    """Build the case on an engine of its own, and compare what the exporter reports with what packets do."""
    engine = start_engine(case.version)
    try:
        for preparation in case.before:
            engine.on_host("sh", "-ec", preparation)
        engine.restart(*case.topology.args)
        if case.swarm:
            engine.docker("swarm", "init", f"--advertise-addr={HOST_ADDRESS}")
        build(engine, case.topology)
        for command in case.after:
            engine.docker(*command)
        observation = observe(engine)
        return Outcome(case, observation, *check(engine, observation))
    finally:
        engine.close()


def observe(engine: Engine) -> Observation:
    """Return what the exporter sees of an engine."""
    client = EngineClient(EngineHost(engine.host), timeout=20)
    try:
        return Observer(client).observe()
    finally:
        client.close()


def check(engine: Engine, observation: Observation) -> tuple[Report, Comparison]:
    """Evaluate an observation of the engine, and compare the report with packets to every address it shows."""
    snapshot = parse(observation)
    report = evaluate(snapshot)
    addresses = sorted({*shown_addresses(observation), *_of_bridges(snapshot)})
    ports = ports_in_use(engine, *PORTS)
    packets = measure(engine, {*addresses, *_hidden_addresses(engine)}, ports)
    sandbox_of = {container.name: container.sandbox for container in report.containers}
    names = {box.name: sandbox_of.get(box.name, box.name) for box in packets.sandboxes} | {HOST: HOST}
    arrived = [
        Probe(names[item.source], item.address, item.protocol, item.port, names[item.destination])
        for item in packets.arrived
    ]
    return report, compare(report, arrived, addresses, ports)


def _hidden_addresses(engine: Engine) -> Iterator[str]:
    """Yield the addresses of overlay members on docker_gwbridge, which the exporter never asks for."""
    for network in engine.api("/networks"):
        if network["Name"] == "docker_gwbridge":
            members = engine.api(f"/networks/{network['Id']}")["Containers"].values()
            yield from (member["IPv4Address"].partition("/")[0] for member in members if member["IPv4Address"])


def shown_addresses(observation: Observation) -> set[str]:
    """Return every address that the engine's API shows, and the loopback ones."""
    return {"127.0.0.1", "::1", *_of_containers(observation), *_of_networks(observation)}


def _of_containers(observation: Observation) -> Iterator[str]:
    for container in observation.containers:
        for endpoint in container["NetworkSettings"]["Networks"].values():
            yield from filter(None, (endpoint.get("IPAddress"), endpoint.get("GlobalIPv6Address")))
        bound = (port.get("IP", "") for port in container.get("Ports") or ())
        yield from (host for host in bound if host and not ip_address(host).is_unspecified)


def _of_bridges(snapshot: Snapshot) -> Iterator[str]:
    """Yield the gateways: those that the API leaves out are told by endpoints or follow from the pool."""
    for network in snapshot.networks.values():
        yield from (str(pool.gateway) for pool in network.pools if pool.gateway)


def _of_networks(observation: Observation) -> Iterator[str]:
    for network in observation.networks:
        pools: list[dict[str, Any]] = (network.get("IPAM") or {}).get("Config") or []
        yield from (pool["Gateway"].partition("/")[0] for pool in pools if pool.get("Gateway"))
