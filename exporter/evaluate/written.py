"""The engine's rules in iptables and ip6tables as it writes them when it starts, whatever somebody made of them.

What they are is told by `engine_rules`; here is whether that is known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from exporter.evaluate.declared.behaviour import DIRECT_ACCESS_DROP, IP6TABLES_BY_DEFAULT, NO_INTER_NETWORK_DROP
from exporter.evaluate.engine_rules import EngineRules
from exporter.model.daemon import Configuration
from exporter.model.firewall import Backend, Firewall, Table, TableFamily, Verdict
from exporter.model.snapshot import GATEWAY_BRIDGE, EngineVersion, GatewayMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.model.snapshot import Network, Snapshot

FAMILIES: Final = {4: TableFamily.IP, 6: TableFamily.IP6}
"""Where rules about a version of IP stand."""

_TRIED: Final = EngineVersion(20, 10)
_OF_IPTABLES: Final = (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)


def unwritten(snapshot: Snapshot, firewall: Firewall, family: int) -> str:
    """Return why it is not known what the engine would write for a version of IP, empty where it is."""
    if not _may_write(snapshot, family):
        return ""
    backends, present = _backends(firewall, family)
    if not present and not isinstance(snapshot.configuration, Configuration):
        return f"whether it writes any (--{_PROGRAMS[family]}) is not known: there are none now"
    if len(backends) != 1:
        return "whether it uses iptables-nft or iptables-legacy is not known"
    engine = snapshot.engine
    known = (
        _TRIED <= engine.version < IP6TABLES_BY_DEFAULT or DIRECT_ACCESS_DROP <= engine.version < NO_INTER_NETWORK_DROP
    )
    if not known or engine.rootless or engine.firewall_backend != "iptables":
        kind = "rootless" if engine.rootless else engine.firewall_backend
        return f"what engine {engine.version_text} ({kind}) writes was not tried"
    if engine.userland_proxy is None and any(box.published for box in snapshot.sandboxes.values()):
        return "whether docker-proxy runs is not known"
    odd = next(_odd(snapshot, family), None)
    if odd is not None:
        return f"what it writes for network {odd.name} was not tried"
    return _policy_untold(snapshot, firewall, family)


_PROGRAMS: Final = {4: "iptables", 6: "ip6tables"}


def _odd(snapshot: Snapshot, family: int) -> Iterator[Network]:
    """Yield networks whose rules were not tried; of routed beside internal ones, it is not known which come first."""
    bridges = [network for network in snapshot.networks.values() if network.driver == "bridge"]
    yield from (each for each in snapshot.networks.values() if each.driver == "overlay" or each.name == GATEWAY_BRIDGE)
    yield from (each for each in bridges if each.icc is None or (each.inhibit_ipv4 and family == 4))
    if snapshot.engine.version < DIRECT_ACCESS_DROP:
        yield from (each for each in bridges if _is_unusual(each, family))
    elif any(each.internal and each.has(family) for each in bridges):
        yield from (each for each in bridges if each.gateway_mode(family) is GatewayMode.ROUTED)


def _is_unusual(network: Network, family: int) -> bool:
    mode = network.gateway_mode(family)
    return mode is not GatewayMode.NAT or bool(network.trusted_host_interfaces) or not network.ipv4


def _backends(firewall: Firewall, family: int) -> tuple[Sequence[Backend], bool]:
    """Return those that the engine may use, and whether its chains are there: else they are all that have any."""
    tables = [table for table in firewall.tables if table.backend in _OF_IPTABLES]
    of_family = [table for table in tables if table.family is FAMILIES[family]]
    own = dict.fromkeys(table.backend for table in of_family if "DOCKER" in table.chains)
    return list(own or dict.fromkeys(table.backend for table in of_family or tables)), bool(own)


def _policy_untold(snapshot: Snapshot, firewall: Firewall, family: int) -> str:
    """Return why nobody knows the policy that FORWARD would have, empty where it is known."""
    configuration = snapshot.configuration
    if isinstance(configuration, Configuration) and not configuration.ip_forward.value:
        return ""
    if family == 6 and snapshot.engine.version < DIRECT_ACCESS_DROP:
        told = isinstance(configuration, Configuration) or Verdict.DROP in _policies(firewall, family)
        return "" if told else "whether it forwards (--ip-forward), and FORWARD has policy DROP then, is not known"
    if _forwards(snapshot, family) is False:
        version = f"IPv{family}"
        return f"the host does not forward {version}, which the engine changes, and the policy of FORWARD with it"
    return ""


def _policies(firewall: Firewall, family: int) -> Iterator[Verdict]:
    for table in firewall.tables:
        base = table.chains["FORWARD"].base if "FORWARD" in table.chains else None
        if table.family is FAMILIES[family] and table.backend in _OF_IPTABLES and base is not None:
            yield base.policy


def _forwards(snapshot: Snapshot, family: int) -> bool | None:
    if family == 4 or snapshot.kernel is None:
        return snapshot.engine.ipv4_forwarding
    told = snapshot.kernel.host.settings.get("ipv6/conf/all/forwarding")
    return None if told is None else told != "0"


def written_anew(snapshot: Snapshot, firewall: Firewall, family: int) -> Firewall:
    """Return the firewall once the engine of a snapshot has written its rules. It is known what these are."""
    (backend,), present = _backends(firewall, family)
    if not _writes(snapshot, family, present=present):
        return firewall
    rules = EngineRules(snapshot, family)
    wanted = {"filter": rules.filter, "nat": rules.nat} | ({"raw": rules.raw} if rules.lately else {})
    known = {table.key: table for table in firewall.tables}
    for name, write in wanted.items():
        key = FAMILIES[family], name, backend
        known[key] = write(known.get(key) or Table(*key))
    return replace(firewall, tables=tuple(known.values()), untracked=firewall.untracked - {family})


def _writes(snapshot: Snapshot, family: int, *, present: bool) -> bool:
    """Return whether the engine writes rules for a version of IP at all; where nobody says so, its chains tell."""
    if family == 4:
        return True
    configuration = snapshot.configuration
    configured = configuration.ip6tables.value if isinstance(configuration, Configuration) else present
    return configured and _may_write(snapshot, family)


def _may_write(snapshot: Snapshot, family: int) -> bool:
    """Return whether the engine can write rules for a version of IP: before 27.0, ip6tables' were an experiment."""
    engine = snapshot.engine
    return family == 4 or engine.version >= IP6TABLES_BY_DEFAULT or engine.experimental is not False
