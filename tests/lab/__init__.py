"""The lab: real Docker Engines, and real packets between their containers."""

from tests.lab.engine import IMAGE, Engine, engine, start_engine
from tests.lab.errors import LabError
from tests.lab.packages import VERSIONS
from tests.lab.packets import (
    HOST,
    Arrival,
    Packets,
    Sandbox,
    arrivals,
    connects,
    local_addresses,
    measure,
    ports_in_use,
    sandboxes,
)
from tests.lab.registry import reap
from tests.lab.topology import Container, Network, Topology, build

__all__ = [
    "HOST",
    "IMAGE",
    "VERSIONS",
    "Arrival",
    "Container",
    "Engine",
    "LabError",
    "Network",
    "Packets",
    "Sandbox",
    "Topology",
    "arrivals",
    "build",
    "connects",
    "engine",
    "local_addresses",
    "measure",
    "ports_in_use",
    "reap",
    "sandboxes",
    "start_engine",
]
