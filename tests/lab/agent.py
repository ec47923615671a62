"""The program that listens and probes inside the sandboxes; started by packets.py, fed with JSON, self-contained.

It forks one child per sandbox. A child enters the network namespace, listens on every tested port and, when all the
others listen too, sends its probes. What counts as an arrival is never inferred from the absence of an error: a TCP
arrival is an answer read that names the sandbox it came from, a UDP or ICMP arrival is a nonce that somebody received.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Target = tuple[str, int] | tuple[str, int, int, int]

MAGIC = b"ICCLAB"
NONCE = struct.Struct("!6sIHI")  # magic, run, source sandbox, probe
ANSWER = struct.Struct("!6sIH")  # magic, run, destination sandbox

SLICE = 48  # probes sent between two looks at the sockets: short bursts never overflow a veth's queue
SYN_TIMEOUT = 1.35  # the first SYN and its repetition after one second
ANSWER_TIMEOUT = 1.5  # of an established connection: it only waits for a busy process
DATAGRAM_REPEATS = (0.3, 0.8)
WARM_UP = 0.15
DAD_TIMEOUT = 4.0
PHASE_TIMEOUT = 30.0
SOCKET_BUFFER = 8 << 20

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
SOL_RAW, ICMP_FILTER, ICMP6_FILTER = 255, 1, 1
SO_RCVBUFFORCE = 33
IP_FREEBIND = 15
TENTATIVE = 0x40


@dataclass(frozen=True, slots=True)
class Plan:
    """One measurement, as every child knows it."""

    run: int
    sandboxes: list[str]  # paths of network namespaces
    sources: list[int]  # which of them probe
    addresses: list[str]
    ports: list[int]
    listen: list[int]  # the tested ports and those that published ports lead to
    protocols: list[str]
    source_ports: list[int]  # taken in turn, one per probe
    fixed_source_port: bool
    near: list[dict[str, list[int]]]  # by which interfaces each may find which link-local addresses

    def probes(self) -> Iterator[tuple[int, str, str, int]]:
        """Every probe of one source: number, protocol, address, port (0 for ICMP)."""
        targets = itertools.chain.from_iterable(
            itertools.product((protocol,), self.addresses, (0,) if protocol == "icmp" else self.ports)
            for protocol in self.protocols
        )
        for number, (protocol, address, port) in enumerate(targets):
            yield number, protocol, address, port


@dataclass(frozen=True, slots=True)
class Inet6Address:
    """A line of /proc/net/if_inet6."""

    address: str
    index: int
    interface: str
    tentative: bool

    @property
    def link_local(self) -> bool:
        """Whether it means nothing beyond its link."""
        return is_link_local(self.address)


def is_link_local(address: str) -> bool:
    """Tell whether a literal address is one of fe80::/10."""
    return address[:3].lower() in ("fe8", "fe9", "fea", "feb")


def family_of(address: str) -> socket.AddressFamily:
    """Tell the family of a literal address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Sandbox:
    """One child's sockets: listeners for everybody's probes and the probes of its own."""

    def __init__(self, plan: Plan, index: int) -> None:
        self.plan = plan
        self.index = index
        self.poll = select.epoll()
        self.sockets: dict[int, tuple[socket.socket, Callable[[socket.socket], None]]] = {}
        self.raw: dict[int, socket.socket] = {}
        self.unbound: list[tuple[str, str, int]] = []
        self.received: set[tuple[int, int]] = set()  # (source sandbox, probe)
        self.answered: set[tuple[int, int]] = set()  # (probe, sandbox that answered)
        self.connecting: dict[socket.socket, int] = {}
        self.established: set[socket.socket] = set()
        self.silent: list[int] = []  # probes whose connection was accepted by somebody who never answered
        self.datagrams: list[tuple[socket.socket, bytes, Target]] = []
        self.last_progress = 0.0

    # -- the event loop

    def watch(self, sock: socket.socket, mask: int, handler: Callable[[socket.socket], None]) -> None:
        """Call a handler whenever a socket is ready."""
        sock.setblocking(False)
        self.sockets[sock.fileno()] = (sock, handler)
        self.poll.register(sock.fileno(), mask)

    def drop(self, sock: socket.socket) -> None:
        """Close a watched socket."""
        self.sockets.pop(sock.fileno(), None)
        sock.close()

    def serve(self, seconds: float) -> None:
        """Handle what is ready now, then whatever comes within some seconds."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            for fileno, _ in self.poll.poll(left, 256):
                if fileno in self.sockets:
                    sock, handler = self.sockets[fileno]
                    handler(sock)
            if not left:
                return

    # -- listening

    def listen(self) -> None:
        """Listen on every tested port in both families, and for echo requests."""
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for port in self.plan.listen:
                    self._listen_on_port(family, kind, port)
            self._listen_for_echo(family)

    def _listen_on_port(self, family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> None:
        """Bind the wildcard; where another program holds the port on one address, bind the other addresses."""
        wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"
        if self._bind(family, kind, wildcard, port):
            return
        # no interface has 127.0.0.2, which every namespace takes for its own all the same, as it does with local routes
        own = (address for address in self.plan.addresses if not is_link_local(address))
        tested = (address for address in own if family_of(address) == family)
        for address in dict.fromkeys([*local_addresses(family), *tested]):
            if not self._bind(family, kind, address, port):
                self.unbound.append(("tcp" if kind == socket.SOCK_STREAM else "udp", address, port))
        for address, link in link_local_addresses() if family == socket.AF_INET6 else ():
            self._bind(family, kind, address, port, link)

    def _bind(
        self, family: socket.AddressFamily, kind: socket.SocketKind, address: str, port: int, link: int = 0
    ) -> bool:
        sock = socket.socket(family, kind)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                # not for UDP, where it would steal datagrams from the program that holds the port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # of IPv6 as well, whether or not an interface has the address
            sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            sock.bind((address, port, 0, link) if link else (address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen(4096)
        except OSError:
            sock.close()
            return False
        if kind == socket.SOCK_DGRAM:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)
        self.watch(sock, select.EPOLLIN, self._accept if kind == socket.SOCK_STREAM else self._receive)
        return True

    def _listen_for_echo(self, family: socket.AddressFamily) -> None:
        six = family == socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)
        if six:  # a set bit blocks a type: let echo requests (128) through, and nothing else
            mask = bytearray(b"\xff" * 32)
            mask[16] &= 0xFE
            sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, bytes(mask))
        else:
            sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~(1 << 8) & 0xFFFFFFFF))
        self.raw[family] = sock
        self.watch(sock, select.EPOLLIN, self._receive_echo)

    def _accept(self, listener: socket.socket) -> None:
        answer = ANSWER.pack(MAGIC, self.plan.run, self.index)
        for _ in range(64):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.send(answer)
                except OSError:
                    continue

    def _receive(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                payload, sender = sock.recvfrom(64)
            except OSError:
                return
            if self._record(payload):
                try:
                    sock.sendto(ANSWER.pack(MAGIC, self.plan.run, self.index), sender)
                except OSError:
                    continue

    def _receive_echo(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                packet = sock.recv(256)
            except OSError:
                return
            header = (packet[0] & 0x0F) * 4 if sock.family == socket.AF_INET else 0
            self._record(packet[header + 8 :])

    def _record(self, payload: bytes) -> bool:
        if len(payload) != NONCE.size:
            return False
        magic, run, source, probe = NONCE.unpack(payload)
        if magic != MAGIC or run != self.plan.run:
            return False
        self.received.add((source, probe))
        return True

    # -- probing

    def warm_up(self) -> None:
        """Make every neighbour known: an unresolved one queues few packets and drops the rest."""
        for address in self.plan.addresses:
            with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                for target in self._targets(address, 9):
                    try:
                        sock.sendto(b"warm-up", target)
                    except OSError:
                        continue
        self.serve(WARM_UP)

    def probe(self) -> None:
        """Send every probe and wait until nothing more can come of it."""
        for number, protocol, address, port in self.plan.probes():
            self._send(number, protocol, address, port)
            if number % SLICE == SLICE - 1:
                self.serve(0)
        sent = time.monotonic()
        for pause in DATAGRAM_REPEATS:
            self.serve(max(0.0, sent + pause - time.monotonic()))
            self._repeat_datagrams()
        self.serve(max(0.0, sent + SYN_TIMEOUT - time.monotonic()) if self.connecting else 0.2)
        self._finish_connections()

    def _targets(self, address: str, port: int) -> list[Target]:
        """Return what an address and port are to the kernel: a link-local one is another on each link."""
        if not is_link_local(address):
            return [(address, port)]
        return [(address, port, 0, link) for link in self.plan.near[self.index].get(address, ())]

    def _send(self, number: int, protocol: str, address: str, port: int) -> None:
        targets = self._targets(address, port)
        if protocol == "tcp":
            for target in targets:
                self._connect(number, target)
            return
        nonce = NONCE.pack(MAGIC, self.plan.run, self.index, number)
        sock: socket.socket | None
        if protocol == "udp":
            sock = self._open(socket.SOCK_DGRAM, address, number)
        else:
            sock = self.raw[family_of(address)]
            # an identifier of its own, for the same reason as ports
            identifier = (self.plan.run + number + 257 * self.index) & 0xFFFF
            nonce = echo_request(family_of(address), identifier, nonce)
        if sock is not None:
            self.datagrams.extend((sock, nonce, target) for target in targets if send(sock, nonce, target))

    def _repeat_datagrams(self) -> None:
        for count, datagram in enumerate(self.datagrams):
            send(*datagram)
            if count % SLICE == SLICE - 1:
                self.serve(0)

    def _open(self, kind: socket.SocketKind, address: str, number: int) -> socket.socket | None:
        """Make a socket bound to a source port of its own, so that no old flow's state decides for it.

        Nor may that of another source, whose packets may come from the same address once they are masqueraded: where
        the host does not follow its own conversations, its conntrack would give one of their ports away.
        """
        sock = socket.socket(family_of(address), kind)
        ports = self.plan.source_ports
        for attempt in range(16):
            port = ports[(number + 101 * self.index + 257 * attempt) % len(ports)]
            if self.plan.fixed_source_port or kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("", port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE and not self.plan.fixed_source_port:
                    continue
                break
            return sock
        sock.close()
        return None

    def _connect(self, number: int, target: Target) -> None:
        sock = self._open(socket.SOCK_STREAM, target[0], number)
        if sock is None:
            return
        sock.setblocking(False)
        # Reset on close: no flow outlives its probe.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if sock.connect_ex(target) not in (0, errno.EINPROGRESS):
            sock.close()
            return
        self.connecting[sock] = number
        self.watch(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET, self._on_connection)

    def _on_connection(self, sock: socket.socket) -> None:
        self.last_progress = time.monotonic()
        try:
            payload = sock.recv(64)
        except BlockingIOError:
            self.established.add(sock)
            return
        except OSError:
            payload = b""
        if len(payload) == ANSWER.size:
            magic, run, destination = ANSWER.unpack(payload)
            if magic == MAGIC and run == self.plan.run:
                self.answered.add((self.connecting[sock], destination))
        self.connecting.pop(sock)
        self.established.discard(sock)
        self.drop(sock)

    def _finish_connections(self) -> None:
        """Wait for answers on established connections; give up the others."""
        self.last_progress = time.monotonic()
        while self.established and time.monotonic() < self.last_progress + ANSWER_TIMEOUT:
            self.serve(0.05)
        self.silent = sorted(self.connecting[sock] for sock in self.established)
        for sock in tuple(self.connecting):
            self.drop(sock)
        self.connecting.clear()

    def result(self) -> dict[str, Any]:
        """Everything this sandbox saw."""
        return {
            "received": sorted(self.received),
            "answered": sorted(self.answered),
            "silent": self.silent,
            "unbound": self.unbound,
        }


def send(sock: socket.socket, payload: bytes, target: Target) -> bool:
    """Send a datagram; tell whether there was a route and room for it."""
    try:
        sock.sendto(payload, target)
    except OSError as error:
        # a firewall's refusal (EPERM) or a full queue may be over at the next repetition; no route stays
        return error.errno in (errno.EPERM, errno.ENOBUFS, errno.EAGAIN, errno.ECONNREFUSED)
    return True


def echo_request(family: socket.AddressFamily, identifier: int, payload: bytes) -> bytes:
    """Build an ICMP echo request; of ICMPv6 the kernel fills in the checksum."""
    if family == socket.AF_INET6:
        return struct.pack("!BBHHH", 128, 0, 0, identifier, 1) + payload
    body = struct.pack("!HH", identifier, 1) + payload
    return struct.pack("!BBH", 8, 0, checksum(b"\x08\x00\x00\x00" + body)) + body


def checksum(data: bytes) -> int:
    """Compute the internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def local_addresses(family: socket.AddressFamily) -> list[str]:
    """Every address of the current network namespace but link-local ones."""
    if family == socket.AF_INET6:
        return [row.address for row in inet6_addresses() if not row.link_local]
    found = []
    lines = Path("/proc/thread-self/net/fib_trie").read_text().splitlines()
    for line, following in itertools.pairwise(lines):
        if "/32 host LOCAL" in following:
            found.append(line.split()[-1])
    return sorted(set(found))


def inet6_addresses() -> list[Inet6Address]:
    """IPv6 addresses of the current network namespace."""
    try:
        lines = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
    except FileNotFoundError:
        return []
    rows = (line.split() for line in lines)
    return [
        Inet6Address(
            socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0])),
            int(row[1], 16),
            row[5],
            bool(int(row[4], 16) & TENTATIVE),
        )
        for row in rows
    ]


def link_local_addresses() -> list[tuple[str, int]]:
    """Link-local addresses of the current network namespace, and those that it shares with others (anycast)."""
    try:
        lines = Path("/proc/thread-self/net/anycast6").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    rows = (line.split() for line in lines)
    shared = [(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[2])), int(row[0])) for row in rows]
    own = [(row.address, row.index) for row in inet6_addresses()]
    return [(address, link) for address, link in (*own, *shared) if is_link_local(address)]


def wait_for_addresses() -> None:
    """Wait until duplicate address detection is over: a tentative address neither sends nor answers.

    The link-local address of a bridge port is of no use to anybody, so nobody waits for it.
    """
    deadline = time.monotonic() + DAD_TIMEOUT
    while time.monotonic() < deadline:
        if not any(row.tentative and not row.interface.startswith("veth") for row in inet6_addresses()):
            return
        time.sleep(0.05)


def enter(path: str) -> None:
    """Enter a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(path, os.O_RDONLY)
    if libc.setns(handle, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    os.close(handle)


def die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent: an orphan would keep a namespace alive."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def child(plan: Plan, index: int, control: socket.socket) -> None:
    """Live through the phases that the parent announces, and send the result."""
    enter(plan.sandboxes[index])
    wait_for_addresses()
    sandbox = Sandbox(plan, index)
    sandbox.listen()
    control.sendall(b"+")
    commands: dict[bytes, Callable[[], None]] = {b"W": sandbox.warm_up, b"P": lambda: None, b"E": lambda: None}
    if index in plan.sources:
        commands[b"P"] = sandbox.probe
    command = b""

    def read_command(sock: socket.socket) -> None:
        nonlocal command
        command = sock.recv(1)
        if not command:
            os._exit(1)

    sandbox.watch(control, select.EPOLLIN, read_command)
    while command != b"E":
        command = b""
        while not command:
            sandbox.serve(0.01)
        commands[command]()
        if command != b"E":
            control.sendall(b"+")
    sandbox.serve(0.1)
    control.setblocking(True)
    control.sendall(json.dumps(sandbox.result()).encode())


def start_child(plan: Plan, index: int) -> socket.socket:
    """Fork a child and return the line to it."""
    mine, theirs = socket.socketpair()
    parent = os.getpid()
    if os.fork():
        theirs.close()
        mine.settimeout(PHASE_TIMEOUT)
        return mine
    try:
        die_with(parent)
        mine.close()
        child(plan, index, theirs)
    except BaseException as error:  # noqa: BLE001 - a forked child must not run on into its parent's code
        print(f"{plan.sandboxes[index]}: {error!r}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def measure(plan: Plan) -> list[Any]:
    """Lead all children through the phases; every one waits for the slowest.

    The host, which is the first, meets its neighbours after the packets that it forwards did. A neighbour is asked for
    from the source of the packet that came last, if that is an address of the host, else from the link-local one
    (ndisc_solicit): where answers reach only the latter, others' packets are lost while the host itself asks.
    """
    lines = [start_child(plan, index) for index in range(len(plan.sandboxes))]
    _await_all(lines)
    host, others = lines[:1], lines[1:]
    for command, told in ((b"W", others), (b"W", host), (b"P", lines)):
        for line in told:
            line.sendall(command)
        _await_all(told)
    for line in lines:
        line.sendall(b"E")
    results = [json.loads(line.makefile("rb").read()) for line in lines]
    for _ in lines:
        os.wait()
    return results


def _await_all(lines: list[socket.socket]) -> None:
    for line in lines:
        if line.recv(1) != b"+":
            raise SystemExit("a sandbox could not be entered or measured")


def main() -> None:
    """Read a plan, measure, print the results."""
    die_with(int(sys.argv[1]))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    print(json.dumps(measure(Plan(**json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
