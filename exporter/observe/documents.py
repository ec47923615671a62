"""What is kept of the engine's documents. Everything else, such as labels, commands and mounts, goes no further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ObservationError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Misfit(Exception):
    """A value of another kind than its shape; the text begins with the way to it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with these fields; a field's value is kept whole (None), or in a shape of its own."""

    fields: Mapping[str, Shape | Each | Values | None]

    def keep(self, value: object) -> dict[str, Any]:
        """Return the fields of an object that the shape has; absent and null ones are left out. Raises Misfit."""
        if not isinstance(value, dict):
            raise Misfit(" is not an object")
        kept = {}
        for key, inner in self.fields.items():
            part = value.get(key)
            if part is None:
                continue
            if inner is not None:
                try:
                    part = inner.keep(part)
                except Misfit as misfit:
                    raise Misfit(f": {key}{misfit}") from misfit
            kept[key] = part
        return kept


@dataclass(frozen=True, slots=True)
class Each:
    """An array of objects of one shape."""

    shape: Shape

    def keep(self, value: object) -> list[dict[str, Any]]:
        """Return the objects of an array, reduced. Raises Misfit."""
        if not isinstance(value, list):
            raise Misfit(" is not a list")
        kept: list[dict[str, Any]] = []
        try:
            for entry in value:
                kept.append(self.shape.keep(entry))  # noqa: PERF401 - the length says which entry it was
        except Misfit as misfit:
            raise Misfit(f"[{len(kept)}]{misfit}") from misfit
        return kept


@dataclass(frozen=True, slots=True)
class Values:
    """An object with any keys; the values have one shape."""

    shape: Shape

    def keep(self, value: object) -> dict[str, Any]:
        """Return the values of an object, reduced. Raises Misfit."""
        if not isinstance(value, dict):
            raise Misfit(" is not an object")
        return {key: self.shape.keep(entry) for key, entry in value.items()}


def _shape(names: str, **nested: Shape | Each | Values) -> Shape:
    return Shape(dict.fromkeys(names.split()) | nested)


VERSION: Final = _shape("Version ApiVersion MinAPIVersion Os", Platform=_shape("Name"), Components=Each(_shape("Name")))
INFO: Final = _shape(
    "ID Name ServerVersion OSType SecurityOptions BridgeNfIptables BridgeNfIp6tables IPv4Forwarding "
    "ExperimentalBuild FirewallBackend",
    Swarm=_shape("LocalNodeState"),
)
NETWORKS: Final = Each(
    _shape(
        "Id Name Driver Scope Internal Attachable Ingress EnableIPv4 EnableIPv6 Options ConfigOnly",
        IPAM=_shape("Driver", Config=Each(_shape("Subnet Gateway IPRange AuxiliaryAddresses"))),
        ConfigFrom=_shape("Network"),
    )
)
CONTAINERS: Final = Each(
    _shape(
        "Id Names State Status",
        Ports=Each(_shape("IP PrivatePort PublicPort Type")),
        HostConfig=_shape("NetworkMode"),
        NetworkSettings=_shape(
            "",
            Networks=Values(
                _shape(
                    "NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address "
                    "GlobalIPv6PrefixLen MacAddress GwPriority"
                )
            ),
        ),
    )
)


def project_object(document: object, shape: Shape, name: str) -> dict[str, Any]:
    """Return what is kept of an object. Raises ObservationError with the document's name and what does not fit."""
    try:
        return shape.keep(document)
    except Misfit as misfit:
        raise ObservationError(f"{name}{misfit}") from misfit


def project_list(document: object, each: Each, name: str) -> list[dict[str, Any]]:
    """Return what is kept of an array of objects. Raises ObservationError as `project_object` does."""
    try:
        return each.keep(document)
    except Misfit as misfit:
        raise ObservationError(f"{name}{misfit}") from misfit
