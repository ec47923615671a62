"""Generators of whole hosts: every driver, mode, option and kind of container that a document can show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.hosts import ALL, Host, host

if TYPE_CHECKING:
    from exporter.model.observation import Observation

NAMES = ("n0", "n1", "n2", "n3")
PORTS = ("80", "5432", "53/udp")

_ADDRESSES = ("", "", "127.0.0.1:", "[::1]:", "172.17.0.1:", "0.0.0.0:", "[::]:")
_BOOLEANS = ("true", "false", "0", "T")
_MODES = ("nat", "nat-unprotected", "routed", "isolated")


@st.composite
def hosts(draw: st.DrawFn, versions: tuple[str, ...] = ALL) -> Observation:
    """Draw a host with up to four networks and seven containers."""
    settings: dict[str, Any] = {
        "icc": draw(st.booleans()),
        "ipv6": draw(st.booleans()),
        "masquerade": draw(st.booleans()),
        "userland_proxy": draw(st.booleans()),
        "bridge": draw(st.sampled_from(("docker0", "docker0", "docker0", "br0", ""))),
        "swarm": draw(st.booleans()),
        "ExperimentalBuild": draw(st.booleans()),
        "IPv4Forwarding": draw(st.sampled_from((True, True, False))),
        "SecurityOptions": draw(st.sampled_from(([], [], ["name=rootless"]))),
    }
    built = host(draw(st.sampled_from(versions)), **settings)
    names = NAMES[: draw(st.integers(0, len(NAMES)))]
    for name in names:
        built.network(name, draw(_drivers), **draw(_networks))
    usable = [*(["bridge"] if settings["bridge"] else []), *(["ingress"] if settings["swarm"] else []), *names]
    for index in range(draw(st.integers(0, 7))):
        _add_container(draw, built, f"c{index}", usable, [f"c{other}" for other in range(index)])
    return built.observation()


_drivers = st.sampled_from(["bridge"] * 5 + ["macvlan", "ipvlan", "overlay", "weave"])

_networks: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"internal": st.booleans(), "ipv6": st.booleans()},
    optional={
        "routers": st.booleans(),
        "enable_icc": st.sampled_from(_BOOLEANS),
        "enable_ip_masquerade": st.sampled_from(_BOOLEANS),
        "gateway_mode_ipv4": st.sampled_from(_MODES),
        "gateway_mode_ipv6": st.sampled_from(_MODES),
        "inhibit_ipv4": st.sampled_from(_BOOLEANS),
        "trusted_host_interfaces": st.just("docker0:eth0"),
        "macvlan_mode": st.sampled_from(("bridge", "private", "vepa", "passthru")),
        "ipvlan_flag": st.sampled_from(("bridge", "private", "vepa")),
    },
)


def _add_container(draw: st.DrawFn, built: Host, name: str, networks: list[str], others: list[str]) -> None:
    modes = ["none", "host", *networks * 4, *(f"container:{other}" for other in others)]
    first = draw(st.sampled_from(modes))
    also = draw(st.lists(st.sampled_from(networks), max_size=2, unique=True)) if first in networks else []
    attached = [first, *(network for network in also if network != first)]
    alone = first not in networks
    published = [
        f"{draw(st.sampled_from(_ADDRESSES))}{draw(st.integers(8000, 8004))}:{port}"
        for port in ([] if alone else draw(st.lists(st.sampled_from(PORTS), max_size=2)))
    ]
    built.container(
        name,
        *attached,
        publish=published,
        expose=[] if alone else draw(st.lists(st.sampled_from(PORTS), max_size=2)),
        routed=[] if alone else draw(st.lists(st.sampled_from(PORTS), max_size=1)),
        links=draw(st.lists(st.sampled_from(others), max_size=1)) if others and first == "bridge" else [],
        state=draw(st.sampled_from(("running", "running", "running", "paused", "exited"))),
        priority={network: draw(st.integers(-1, 1)) for network in attached},
    )
    built.seen(name, draw(st.sampled_from(("2 seconds", "4 minutes", "3 hours"))))


_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from((0, -1, 65535, 65536, 10**400)),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        (
            "",
            "/",
            "//",
            "\n",
            '"',
            "<script>",
            "\ud800",
            "{}",
            "%s",
            "x" * 100_000,
            "9" * 5000,
            "9" * 5000 + ".0",
            "29-dev",
            "container:",
            "0.0.0.0/0",
            "255.255.255.255/32",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
            "::/0",
            "::ffff:10.0.0.1",
            "fe80::1%eth0",
            "10.0.0.1/33",
            "bridge",
            "host",
            "null",
            "overlay",
            "macvlan",
            "vepa",
            "running",
            "tcp",
            "sctp",
            "Up 999999999 years",
        )
    ),
)

junk = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
"""Any JSON value, with a liking for those that mean something somewhere."""
