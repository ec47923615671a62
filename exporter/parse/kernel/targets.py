"""What iptables' targets do (iptables-extensions(8)), one entry of a table for each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from exporter.model.firewall import (
    Call,
    CopyMark,
    Dispatch,
    Divert,
    Field,
    HasBits,
    Onward,
    Opaque,
    ProxyLocally,
    Rewrite,
    SetMark,
    Target,
    Terminate,
    Translate,
    Translation,
    Unforeseeable,
    Untrack,
    Verdict,
)
from exporter.model.namespace import ENOUGH_HOPS, USUAL_HOPS
from exporter.model.ranges import Ranges
from exporter.parse.addresses import parse_address
from exporter.parse.kernel.values import ALL_BITS, HIGHEST_PORT, addresses, bits, number, span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    from exporter.model.firewall import Statement
    from exporter.parse.kernel.options import Context, Option

_VERDICTS = {
    "ACCEPT": Verdict.ACCEPT,
    "DROP": Verdict.DROP,
    "REJECT": Verdict.REJECT,
    "RETURN": Verdict.RETURN,
}

WITHOUT_EFFECT = frozenset({
    "AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "DSCP", "ECN", "IDLETIMER", "LED", "LOG", "NFLOG", "RATEEST",
    "SECMARK", "TCPMSS", "TCPOPTSTRIP", "TOS", "TRACE", "ULOG",
})  # fmt: skip
"""Targets after which the packet goes on as it was, as far as rules can see."""

_LED_ELSEWHERE = frozenset({"DNAT", "NETMAP", "REDIRECT", "TEE"})
"""Targets by which packets, or copies of them, go to somebody else, be it not understood to whom."""

LARGEST_NETMAP = 256
"""Addresses that NETMAP translates one by one."""


def statement(
    option: Option, others: Sequence[Option], chain: str, chains: Set[str], context: Context
) -> Statement | None:
    """Return what `-j` or `-g` with the target's own options does, None where it has no effect on a packet's way.

    A target that is not known, or is given what it does not take, is `Unforeseeable`. `chain` is where the rule stands:
    NETMAP alone does something else in each.
    """
    if len(option.arguments) != 1:
        return Unforeseeable(option.name.lstrip("-"), str(option))
    name = option.only
    if name in _VERDICTS:
        return Terminate(_VERDICTS[name])
    if name in chains:
        return Call(name, goto=option.name == "-g")
    if name in WITHOUT_EFFECT:
        return None
    handler = partial(_netmap, chain) if name == "NETMAP" else _TARGETS.get(name)
    try:
        if handler is not None:
            return handler(others, context)
    except (ValueError, KeyError):
        pass
    if name in _LED_ELSEWHERE:
        return Divert(name)
    return Unforeseeable(name, " ".join(map(str, (option, *others))))


def _given(options: Sequence[Option]) -> Mapping[str, str]:
    """Return arguments by option. Raises ValueError where an option is negated or comes twice."""
    found = {option.name: " ".join(option.arguments) for option in options}
    if len(found) != len(options) or any(option.negated for option in options):
        raise ValueError("options that no target takes")
    return found


# --- Translations ---

_INDIFFERENT = frozenset({"--random", "--random-fully", "--persistent"})
"""How the kernel picks one of several addresses or ports: any of them may be the one."""


def _translate(kind: Translation, name: str, options: Sequence[Option], context: Context) -> Statement | None:
    """Several `--to-…` are alternatives that the kernel picks from."""
    if {option.name for option in options} - _INDIFFERENT - {name}:
        raise ValueError("an unknown option of a translation")
    targets = [_destination(option.only, context) for option in options if option.name == name]
    if not targets:
        raise ValueError(f"{name} is missing")
    first = targets[0]
    if any((target.ports, target.base_port) != (first.ports, first.base_port) for target in targets):
        raise ValueError("translations to different ports")
    merged = Ranges.union(interval for target in targets for interval in target.addresses.intervals)
    return Translate(kind, (Target(merged, first.ports, base_port=first.base_port),))


def _destination(text: str, context: Context) -> Target:
    """`10.0.0.2`, `10.0.0.2-10.0.0.9:80`, `:2000-2010/1000`, `[fd00::2]:80`, `fd00::2`."""
    if text.startswith("["):
        place, _, ports = text[1:].rpartition("]")
        ports = ports.removeprefix(":")
    elif context.version == 6:
        place, ports = ("", text[1:]) if text.startswith(":") and not text.startswith("::") else (text, "")
    else:
        place, _, ports = text.partition(":")
    found = Ranges((addresses(place.replace("]-[", "-"), context.version),)) if place else Ranges()
    if not found and not ports:
        raise ValueError("a translation to nothing")
    return _to_ports(found, ports)


def _to_ports(found: Ranges, text: str) -> Target:
    """Return the target of some addresses and of ports such as `80`, `8000-8080` and `2000-2010/1000`."""
    if not text:
        return Target(found, Ranges())
    ports, shifted, base = text.partition("/")
    return Target(found, Ranges((span(ports, "-"),)), base_port=number(base, HIGHEST_PORT) if shifted else None)


def _own_address(kind: Translation, options: Sequence[Option], _context: Context) -> Statement | None:
    """MASQUERADE and REDIRECT: the address is the host's, only ports can be chosen."""
    given = _given(options)
    if given.keys() - _INDIFFERENT - {"--to-ports"}:
        raise ValueError("an unknown option of a translation")
    return Translate(kind, (_to_ports(Ranges(), given.get("--to-ports", "")),))


_NETMAPS = {
    "PREROUTING": Translation.DNAT,
    "OUTPUT": Translation.DNAT,
    "INPUT": Translation.SNAT,
    "POSTROUTING": Translation.SNAT,
}


def _netmap(chain: str, options: Sequence[Option], context: Context) -> Statement | None:
    """NETMAP changes the network and keeps the rest of the address: of the destination, or of the source.

    Which one depends on the hook, and so is told for chains of a hook alone. Raises KeyError for other chains, and
    ValueError for networks of more than LARGEST_NETMAP addresses.
    """
    kind = _NETMAPS[chain]
    low, high = addresses(_given(options)["--to"], context.version)
    rest = high - low
    if rest >= LARGEST_NETMAP or len(options) > 1:
        raise ValueError("too large a network")
    field = Field.DESTINATION if kind is Translation.DNAT else Field.SOURCE
    return Translate(
        kind,
        tuple(Target(Ranges.of(low | host), Ranges(), (HasBits(field, rest, host),)) for host in range(rest + 1)),
    )


# --- Marks ---


def _mark(field: Field, options: Sequence[Option], _context: Context) -> Statement | None:
    ((name, argument),) = _given(options).items()
    return _MARKS[name](field, argument)


def _set_xmark(field: Field, text: str) -> SetMark:
    value, mask = bits(text)
    return SetMark(field, ALL_BITS ^ mask, value)


def _set_mark(field: Field, text: str) -> SetMark:
    """Bits of the mask are cleared, and those of the value set."""
    value, mask = bits(text)
    return SetMark(field, ALL_BITS & ~(mask | value), value)


def _and_mark(field: Field, text: str) -> SetMark:
    return SetMark(field, number(text), 0)


def _or_mark(field: Field, text: str) -> SetMark:
    return SetMark(field, ALL_BITS ^ number(text), number(text))


def _xor_mark(field: Field, text: str) -> SetMark:
    return SetMark(field, ALL_BITS, number(text))


_MARKS: Mapping[str, Callable[[Field, str], SetMark]] = {
    "--set-xmark": _set_xmark,
    "--set-mark": _set_mark,
    "--and-mark": _and_mark,
    "--or-mark": _or_mark,
    "--xor-mark": _xor_mark,
}

_COPIES = {"--save-mark": (Field.MARK, Field.CT_MARK), "--restore-mark": (Field.CT_MARK, Field.MARK)}
_MASKS = {Field.MARK: "--nfmask", Field.CT_MARK: "--ctmask"}


def _connmark(options: Sequence[Option], context: Context) -> Statement | None:
    """`--save-mark` and `--restore-mark` with the masks of either mark, or one `--mask` for both."""
    given = dict(_given(options))
    copies = [name for name in _COPIES if name in given]
    if not copies:
        return _mark(Field.CT_MARK, options, context)
    (name,) = copies
    source, target = _COPIES[name]
    if given.pop(name):
        raise ValueError(f"{name} takes no argument")
    both = number(given.pop("--mask", hex(ALL_BITS)))
    masks = {field: number(given.pop(mask, hex(both))) for field, mask in _MASKS.items()}
    if given:
        raise ValueError("an unknown option of CONNMARK")
    return CopyMark(source, target, masks[source], masks[target])


# --- Others ---


def _set(options: Sequence[Option], _context: Context) -> Statement | None:
    """SET changes what is in sets, which match nobody knows whom then, and with `--map-mark` may set the mark."""
    given = {option.name: str(option) for option in options}
    return _may_mark("SET --map-mark", given["--map-set"]) if "--map-mark" in given else None


def _may_mark(name: str, text: str) -> Dispatch:
    """Return what sets a mark of which nobody knows what it is."""
    return Dispatch((((Opaque(name, text),), SetMark(Field.MARK, 0, 0)),))


def _hashed_mark(options: Sequence[Option], _context: Context) -> Statement | None:
    return _may_mark("HMARK", " ".join(map(str, options)))


def _connection(options: Sequence[Option], _context: Context) -> Statement | None:
    """CT: helpers and events change no packet's way; zones are not followed, and nobody tells how long timeouts are."""
    given = _given(options)
    if "--notrack" in given:
        return Untrack()
    zone = next((name for name in given if name.startswith("--zone")), None)
    if zone is not None:
        return Unforeseeable("CT zone", f"{zone} {given[zone]}".rstrip())
    if "--timeout" in given:
        return Unforeseeable("CT timeout", given["--timeout"])
    if given.keys() - {"--helper", "--ctevents", "--expevents"}:
        raise ValueError("an unknown option of CT")
    return None


def _untrack(options: Sequence[Option], _context: Context) -> Statement | None:
    if options:
        raise ValueError("NOTRACK takes no option")
    return Untrack()


def _proxy(options: Sequence[Option], context: Context) -> Statement | None:
    """TPROXY: port 0 and the address 0.0.0.0 or :: are the packet's own."""
    given = dict(_given(options))
    port = number(given.pop("--on-port", "0"), HIGHEST_PORT)
    low, high = addresses(given.pop("--on-ip", "::" if context.version == 6 else "0.0.0.0"), context.version)  # noqa: S104
    value, mask = bits(given.pop("--tproxy-mark", "0/0"))
    if given:
        raise ValueError("an unknown option of TPROXY")
    return ProxyLocally(
        Ranges(((low, high),)) if low else Ranges(),
        Ranges.of(port) if port else Ranges(),
        ALL_BITS ^ mask,
        value,
    )


def _hops(prefix: str, options: Sequence[Option], _context: Context) -> Statement | None:
    """TTL and HL: packets that have few hops left may die on their way."""
    ((name, argument),) = _given(options).items()
    left = {"set": number(argument, 255), "dec": USUAL_HOPS - number(argument, 255), "inc": USUAL_HOPS}
    if left[name.removeprefix(f"--{prefix}-")] < ENOUGH_HOPS:
        return Unforeseeable(prefix.upper(), f"{name} {argument}")
    return None


def _copy(options: Sequence[Option], _context: Context) -> Statement | None:
    """Return what sends copies of packets to a gateway, or by an interface to whoever has it."""
    given = dict(_given(options))
    gateway, device = int(parse_address(given.pop("--gateway"))), given.pop("--oif", "")
    if given:
        raise ValueError("an unknown option of TEE")
    if device:
        return Divert("TEE", device, copied=True)
    return Rewrite("TEE", Field.DESTINATION, (Target(Ranges.of(gateway), Ranges()),), Onward.COPIED)


def _network(name: str, options: Sequence[Option], _context: Context) -> Statement | None:
    """DNPT and SNPT put another prefix into an address, and what makes up for it into the rest (RFC 6296)."""
    del options
    return Divert(name)


_TARGETS: Mapping[str, Callable[[Sequence[Option], Context], Statement | None]] = {
    "CONNMARK": _connmark,
    "CT": _connection,
    "DNPT": partial(_network, "DNPT"),
    "DNAT": partial(_translate, Translation.DNAT, "--to-destination"),
    "HL": partial(_hops, "hl"),
    "HMARK": _hashed_mark,
    "MARK": partial(_mark, Field.MARK),
    "MASQUERADE": partial(_own_address, Translation.MASQUERADE),
    "NOTRACK": _untrack,
    "REDIRECT": partial(_own_address, Translation.REDIRECT),
    "SET": _set,
    "SNAT": partial(_translate, Translation.SNAT, "--to-source"),
    "SNPT": partial(_network, "SNPT"),
    "TEE": _copy,
    "TPROXY": _proxy,
    "TTL": partial(_hops, "ttl"),
}
