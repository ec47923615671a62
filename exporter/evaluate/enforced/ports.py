"""Which frames the ports of the host's bridges let in and out (br_handle_frame_finish, br_flood, br_forward)."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.model.namespace import ForwardingEntry, Interface, Namespace, Port

AGES = "how long bridge {name} remembers the link address behind port {port}"
SILENT = "whether bridge {name} has learned the link address behind port {port}"
OWN = "what bridge {name} makes of frames for a link address that it was told is its own"
ELSEWHERE = "whether bridge {name} leads frames elsewhere, as it was told of a link address"
SNOOPED = "whether multicast snooping leads questions to port {port}"


def told_bridges(host: Namespace) -> frozenset[int]:
    """Return the indexes of bridges that somebody told where a link address is, or that it is their own."""
    found = set()
    for entry in host.forwarding:
        port = host.interfaces.get(entry.port)
        if port is not None and (entry.sticky or entry.lasting or (entry.local and entry.mac != port.mac)):
            found.add(port.master or port.index)
    return frozenset(found)


class Frame(Enum):
    """Whom a frame is for: who has a link address, everybody, or a group."""

    ONE = "one"
    ALL = "all"
    GROUP = "group"


class Known:
    """What the bridges of a namespace know of link addresses."""

    def __init__(self, namespace: Namespace) -> None:
        self._bridges: dict[int, dict[tuple[str, int], ForwardingEntry]] = defaultdict(dict)
        self.told = told_bridges(namespace)
        for entry in namespace.forwarding:
            port = namespace.interfaces.get(entry.port)
            if port is not None:
                self._bridges[port.master or port.index][entry.mac, entry.vlan] = entry

    def of(self, bridge: Interface) -> Mapping[tuple[str, int], ForwardingEntry]:
        """Return the entries of a bridge by link address and VLAN."""
        return self._bridges.get(bridge.index, {})


class Ports:
    """The ports of one bridge of the host, which somebody may have `told` where link addresses are."""

    def __init__(self, bridge: Interface, known: Known) -> None:
        self._bridge = bridge
        self._known = known.of(bridge)
        self.told = bridge.index in known.told

    def lets_in(self, port: Interface, mac: str) -> tuple[bool, str]:
        """Return whether a port takes frames from a link address, and what is not known about it.

        A locked one asks for an entry of that address at the port, which is neither the bridge's own (BR_FDB_LOCAL) nor
        made for whoever knocks; it is not learned then, but refreshed if the port learns, and else it ages.
        """
        own = port.port
        if own is None or not own.locked:
            return True, ""
        entry = self._entry(own, mac)
        if entry is None or entry.port != port.index or entry.local:
            return False, ""
        return True, "" if entry.lasting else self._doubt(AGES, port)

    def leads_to(self, port: Interface, mac: str, *, silent: bool = False) -> tuple[bool, str]:
        """Return whether frames for a link address leave by a port, and what is not known about it.

        Who sent by a port that learns is known to be there, unless the bridge was told that he stays elsewhere
        (br_fdb_update). What it takes for its own, the host gets, and may lead back. What is for nobody that the bridge
        knows leaves by ports that flood. `silent` tells that nobody asked the one behind the port for anything first.
        """
        own = port.port
        if own is None or not (self._known or not (own.learning and _floods(own))):
            return True, ""
        entry = self._entry(own, mac)
        elsewhere = entry is not None and entry.port != port.index
        if entry is not None and entry.local:
            return True, self._doubt(OWN, port)
        if entry is not None and elsewhere and entry.sticky:
            return False, ""
        if own.learning:
            lasts = entry is not None and entry.lasting and not elsewhere
            told = entry is not None and entry.lasting and elsewhere
            unsure = silent and (told if _floods(own) else not lasts)
            return True, self._doubt(SILENT, port) if unsure else ""
        if entry is None:
            return _floods(own), ""
        if entry.port == port.index:
            return True, "" if entry.lasting or _floods(own) else self._doubt(AGES, port)
        if entry.lasting or not _floods(own):
            return False, ""
        return True, self._doubt(AGES, port)

    def leads_in(self, sender: Interface, mac: str) -> bool:
        """Return whether frames for the bridge's own link address, which come in by a port, are not led elsewhere.

        Its own entry says so until somebody writes over it (fdb_add_entry); who sends from there does not change it.
        """
        entry = self._entry(sender.port, mac) if self._known and sender.port is not None else None
        return entry is None or entry.local or not entry.lasting

    def moves(self, mac: str) -> tuple[bool, str]:
        """Return that frames come to who has a link address somewhere on the bridge, and what is not known about it."""
        told = any((entry.sticky or entry.local) for (known, _), entry in self._known.items() if known == mac)
        return True, ELSEWHERE.format(name=self._bridge.name) if told else ""

    def spreads_to(self, port: Interface, frame: Frame, *, own: bool) -> tuple[bool, str]:
        """Return whether frames for all or a group leave by a port, and what is not known about it.

        Of the bridge's own frames, `own`, more do.
        With a querier, snooping leads what is for a group by what its members said, whatever the port floods.
        """
        switches = port.port
        if switches is None:
            return True, ""
        if switches.proxied:
            return False, ""
        if own or (switches.mcast_flood if frame is Frame.GROUP else switches.bcast_flood):
            return True, ""
        return frame is Frame.GROUP, self._doubt(SNOOPED, port) if frame is Frame.GROUP else ""

    def _entry(self, port: Port, mac: str) -> ForwardingEntry | None:
        filtering = self._bridge.bridge is not None and self._bridge.bridge.vlan_filtering
        return self._known.get((mac, (port.pvid or 0) if filtering else 0))

    def _doubt(self, text: str, port: Interface) -> str:
        return text.format(name=self._bridge.name, port=port.name)


def _floods(port: Port) -> bool:
    """Return whether frames for nobody that is known leave by a port (br_flood)."""
    return port.flood and not port.proxied


def answered_for(entering: Interface | None, leaving: Interface | None) -> bool:
    """Return whether a bridge may answer a question that comes by one port for whoever is behind another.

    br_do_proxy_suppress_arp, br_do_suppress_nd: by what the bridge itself knows of its neighbours, and that changes.
    """
    asked = entering is not None and entering.port is not None and entering.port.proxied
    return asked or (leaving is not None and leaving.port is not None and leaving.port.answers)


def usual(port: Port | None) -> bool:
    """Return whether a port learns, floods, and lets in all, and leaves questions to those who are asked."""
    return port is None or (
        port.learning
        and port.flood
        and port.mcast_flood
        and port.bcast_flood
        and not (port.locked or port.answers or port.proxied)
    )
