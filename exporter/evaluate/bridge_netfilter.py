"""Whether frames that stay on one bridge pass the firewall, without which no rule keeps neighbours apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.snapshot import Snapshot

_SYSCTLS: Final = {"ipv4": "bridge/bridge-nf-call-iptables", "ipv6": "bridge/bridge-nf-call-ip6tables"}


def bridge_netfilter(snapshot: Snapshot) -> Mapping[str, bool]:
    """Return br_netfilter's switch of the engine's namespace by family (`ipv4`, `ipv6`), as far as it is known.

    The kernel's own word comes first; it has no such sysctl where the module is not loaded, and then filters nothing.
    Else the engine's word, which it gives before 28.0. A bridge may have a switch of its own besides.
    """
    kernel = snapshot.kernel
    if kernel is not None and "bridge" not in kernel.missing:
        return {family: kernel.host.settings.get(sysctl, "0") != "0" for family, sysctl in _SYSCTLS.items()}
    engine = snapshot.engine
    told = {"ipv4": engine.bridge_netfilter_v4, "ipv6": engine.bridge_netfilter_v6}
    return {family: value for family, value in told.items() if value is not None}
