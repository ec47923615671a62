"""Sysctls of a namespace that decide about packets, by their path under `net/`.

`/proc/sys/net` shows the namespace of the thread that reads it. Those of single interfaces come with the links
(`links.py`): ten files for each of a thousand interfaces would take longer than everything else. For the same reason
what no verdict asks for is not read.
"""

from __future__ import annotations

import os
from typing import Final

from exporter.observe.kernel.trouble import Unreadable, reason

_ROOT: Final = "/proc/sys/net"
_LONGEST: Final = 4096
"""Bytes of the longest of these values, which may be a list of ports, and more."""

NAMES: Final = (
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
    "bridge/bridge-nf-call-arptables",
    "ipv4/ip_default_ttl",
    "ipv4/ip_local_port_range",
    "ipv4/ip_local_reserved_ports",
    "ipv4/tcp_fwmark_accept",
    "ipv4/conf/all/forwarding",
    "ipv4/conf/all/accept_redirects",
    "ipv4/conf/all/send_redirects",
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/src_valid_mark",
    "ipv4/conf/all/route_localnet",
    "ipv4/conf/all/accept_local",
    "ipv4/conf/all/arp_ignore",
    "ipv4/conf/all/arp_filter",
    "ipv4/conf/all/proxy_arp",
    "ipv4/conf/all/proxy_arp_pvlan",
    "ipv6/conf/all/forwarding",
    "ipv6/conf/all/proxy_ndp",
    "netfilter/nf_conntrack_icmp_timeout",
    "netfilter/nf_conntrack_icmpv6_timeout",
    "netfilter/nf_conntrack_tcp_loose",
    "netfilter/nf_conntrack_tcp_timeout_established",
    "netfilter/nf_conntrack_tcp_timeout_max_retrans",
    "netfilter/nf_conntrack_tcp_timeout_syn_recv",
    "netfilter/nf_conntrack_tcp_timeout_syn_sent",
    "netfilter/nf_conntrack_tcp_timeout_unacknowledged",
    "netfilter/nf_conntrack_udp_timeout",
)
"""Sysctls of a namespace as a whole."""


def read_settings() -> dict[str, str]:
    """Return the sysctls of the calling thread's namespace that this kernel has.

    Raises Unreadable where one is there and may not be read.
    """
    found = {}
    for name in NAMES:
        try:
            found[name] = _read(f"{_ROOT}/{name}")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unreadable(reason(error, f"{_ROOT}/{name}", "root")) from error
    return found


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LONGEST).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
