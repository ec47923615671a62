"""Networks of both families between which the host routes, as nothing keeps them apart."""

from __future__ import annotations

from tests.lab import Network


def dual_stack(*names: str) -> tuple[Network, ...]:
    """Return networks, the first one fd00:a::/64 and 10.100.1.0/24; the bridge of each is `br` and its name."""
    return tuple(
        Network(
            name,
            "bridge",
            {"com.docker.network.bridge.name": f"br{name}"},
            ("--ipv6", f"--subnet=fd00:{place + 9:x}::/64", f"--subnet=10.100.{place}.0/24"),
        )
        for place, name in enumerate(names, 1)
    )


def let_through(nat: str) -> tuple[str, ...]:
    """Return commands for the host that open what engines close between networks, and do something to nat."""
    return tuple(
        f"{program} -w {rule}"
        for program in ("iptables", "ip6tables")
        for rule in ("-I FORWARD -j ACCEPT", "-t raw -F", f"-t nat {nat}")
    )


def both(*things: tuple[str, str]) -> tuple[str, str]:
    """Return how several things are done, and undone the other way round."""
    return "; ".join(does for does, _ in things), "; ".join(undoes for _, undoes in reversed(things))
