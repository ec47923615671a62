"""Sysctls of a namespace that decide about packets, by their path under `net/`.

`/proc/sys/net` shows the namespace of the thread that reads it. Those of single interfaces come with the links
(`links.py`): ten files for each of a thousand interfaces would take longer than everything else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.observe.kernel.trouble import Unreadable, reason

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROOT: Final = Path("/proc/sys/net")

_CONF4: Final = (
    "forwarding", "rp_filter", "route_localnet", "accept_local", "arp_ignore", "arp_filter", "proxy_arp",
    "proxy_arp_pvlan", "src_valid_mark",
)  # fmt: skip
_CONF6: Final = ("forwarding", "force_forwarding", "disable_ipv6", "proxy_ndp")

NAMES: Final = (
    "ipv4/ip_forward",
    "ipv4/ip_local_port_range",
    "ipv4/ip_nonlocal_bind",
    "ipv4/ip_unprivileged_port_start",
    "ipv4/icmp_echo_ignore_all",
    "ipv4/icmp_echo_ignore_broadcasts",
    "ipv4/fwmark_reflect",
    "ipv4/tcp_l3mdev_accept",
    "ipv4/udp_l3mdev_accept",
    "ipv6/bindv6only",
    "ipv6/icmp/echo_ignore_all",
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
    "bridge/bridge-nf-call-arptables",
    "bridge/bridge-nf-filter-vlan-tagged",
    "bridge/bridge-nf-pass-vlan-input-dev",
    "netfilter/nf_conntrack_tcp_loose",
    "netfilter/nf_conntrack_tcp_be_liberal",
    *(f"ipv4/conf/{every}/{name}" for every in ("all", "default") for name in _CONF4),
    *(f"ipv6/conf/{every}/{name}" for every in ("all", "default") for name in _CONF6),
)
"""Sysctls of a namespace as a whole."""


def read_settings(names: Iterable[str] = NAMES) -> dict[str, str]:
    """Return the sysctls of the calling thread's namespace that this kernel has.

    Raises Unreadable where one is there and may not be read.
    """
    found = {}
    for name in names:
        path = _ROOT / name
        try:
            found[name] = path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unreadable(reason(error, str(path), "root")) from error
    return found
