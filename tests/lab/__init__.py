"""The lab: real Docker Engines, and real packets between their containers."""

from .engine import IMAGE, Engine, engine, start_engine
from .errors import LabError
from .packages import VERSIONS
from .packets import (
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
from .registry import reap
from .topology import Container, Network, Topology, build

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
