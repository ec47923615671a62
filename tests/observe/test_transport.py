"""Ways to an engine: tcp, TLS and ssh."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import EngineTimeout, EngineUnreachable
from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from tests.fake_engine import dribbles, hangs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.fake_engine import FakeEngine


@contextmanager
def tcp_front(engine: FakeEngine, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Relay a TCP port, with TLS if a context is given, to the engine's socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, engine, context), daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, engine: FakeEngine, context: ssl.SSLContext | None) -> None:
    while True:
        try:
            front, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_join, args=(front, engine, context), daemon=True).start()


def _join(front: socket.socket, engine: FakeEngine, context: ssl.SSLContext | None) -> None:
    with front, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as back, contextlib.suppress(OSError):
        back.connect(str(engine.path))
        with context.wrap_socket(front, server_side=True) if context else front as wrapped:
            other_way = threading.Thread(target=_relay, args=(back, wrapped), daemon=True)
            other_way.start()
            _relay(wrapped, back)
            other_way.join()


def _relay(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def test_tcp_reaches_the_engine_in_two_requests_per_poll(engine: FakeEngine) -> None:
    """tcp:// behaves as a socket file does, connection reuse included."""
    with tcp_front(engine) as port:
        observer = Observer(EngineClient(EngineHost.resolve(f"tcp://127.0.0.1:{port}", {}), 2.0))
        observer.observe()
        engine.requests.clear()
        observer.observe()
        observer.close()
    assert engine.paths == ["/containers/json", "/networks"]


def test_proxies_of_the_web_are_not_used(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY, which is for the web, does not get to see the engine's documents."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with tcp_front(engine) as port:
        observer = Observer(EngineClient(EngineHost.resolve(f"tcp://127.0.0.1:{port}", {}), 2.0))
        assert len(observer.observe().containers) == 2
        observer.close()


def test_tls_uses_dockers_certificates(
    engine: FakeEngine, certificates: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With DOCKER_CERT_PATH both sides prove who they are, and REQUESTS_CA_BUNDLE does not interfere."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle")
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
    with tcp_front(engine, tls) as port:
        observer = Observer(EngineClient(EngineHost.resolve(f"tcp://127.0.0.1:{port}", environ), 2.0))
        assert len(observer.observe().containers) == 2
        observer.close()


def test_tls_to_a_stranger_is_refused(engine: FakeEngine, tls: ssl.SSLContext) -> None:
    """A server whose certificate no known authority signed is unreachable when verification is asked for."""
    with tcp_front(engine, tls) as port:
        host = EngineHost(f"tcp://127.0.0.1:{port}", tls_verify=True)
        client = EngineClient(host, 2.0)
        with pytest.raises(EngineUnreachable, match="certificate verify failed"):
            client.get("/info")
    assert engine.requests == []


def test_a_hanging_engine_behind_tls_is_given_up(engine: FakeEngine, certificates: Path, tls: ssl.SSLContext) -> None:
    """Deadlines cut TLS connections too."""
    engine.answers["/networks"] = hangs
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
    with tcp_front(engine, tls) as port:
        observer = Observer(EngineClient(EngineHost.resolve(f"tcp://127.0.0.1:{port}", environ), 0.5))
        began = time.monotonic()
        with pytest.raises(EngineTimeout):
            observer.observe()
        assert time.monotonic() - began < 5


@pytest.fixture
def ssh(tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an `ssh` that writes down its arguments and leads to the engine; the file that it writes is returned."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, socket, sys, threading\n"
        f"open({str(tmp_path / 'log')!r}, 'a').write(f'{{os.getpid()}} {{sys.argv[1:]}}\\n')\n"
        f"engine = socket.socket(socket.AF_UNIX); engine.connect({str(engine.path)!r})\n"
        "def copy(read, write):\n"
        "    while piece := read(65536): write(piece)\n"
        "threading.Thread(target=copy, args=(engine.recv, lambda p: os.write(1, p)), daemon=True).start()\n"
        "copy(lambda n: os.read(0, n), engine.sendall)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "log"


def test_ssh_speaks_through_the_openssh_client(engine: FakeEngine, ssh: Path) -> None:
    """ssh:// runs `docker system dial-stdio` at the other end, once for many polls, and never asks for a password."""
    observer = Observer(EngineClient(EngineHost.resolve("ssh://me@far:2222", {}), 5.0))
    observer.observe()
    engine.requests.clear()
    observer.observe()
    observer.close()
    assert engine.paths == ["/containers/json", "/networks"]
    (line,) = ssh.read_text().splitlines()
    assert "'BatchMode=yes'" in line
    assert line.endswith("'-l', 'me', '-p', '2222', '--', 'far', 'docker system dial-stdio']")


def test_ssh_ends_with_its_connection(engine: FakeEngine, ssh: Path) -> None:
    """Neither a look that succeeds nor one that is given up leaves an ssh process behind."""
    observer = Observer(EngineClient(EngineHost("ssh://far"), 1.5))
    observer.observe()
    engine.answers["/networks"] = hangs
    with pytest.raises(EngineTimeout):
        observer.observe()
    process = int(ssh.read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_without_an_ssh_client_the_engine_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without OpenSSH's client gets told which program is missing."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EngineUnreachable, match="No such file or directory: ssh"):
        EngineClient(EngineHost("ssh://far"), 1.0).get("/info")


@contextmanager
def tcp_server(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections at a TCP port and leave each to `behave`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            behave(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


# a record of a handshake that is 16,000 bytes long, of which one arrives at a time
HANDSHAKE = [b"\x16\x03\x03\x3e\x80\x02\x00\x3e\x7c\x03\x03", *[b"x"] * 400]


def says_nothing(connection: socket.socket) -> None:
    """Read until the client gives up."""
    while connection.recv(4096):
        pass


@pytest.mark.parametrize("behave", [says_nothing, dribbles(HANDSHAKE, pause=0.02)], ids=["silence", "dribble"])
def test_a_tls_handshake_is_given_up_in_time(behave: Callable[[socket.socket], None]) -> None:
    """A server that never finishes the handshake is a timeout, again and again, though no single read takes long."""
    with tcp_server(behave) as port:
        observer = Observer(EngineClient(EngineHost(f"tcp://127.0.0.1:{port}", tls_verify=True), 0.4))
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(EngineTimeout):
                observer.observe()
            assert time.monotonic() - began < 5


def test_a_deadline_cuts_nothing_that_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends only once a cut that had begun is over: the next poll's connections are not its own."""
    client = EngineClient(EngineHost("tcp://127.0.0.1:1"), 0.05)
    began, ends = threading.Event(), list[float]()

    def cut() -> None:
        began.set()
        time.sleep(0.2)
        ends.append(time.monotonic())

    monkeypatch.setattr(client._sockets, "cut", cut)
    with client.deadline():
        assert began.wait(5)
    over = time.monotonic()
    time.sleep(0.5)
    assert ends
    assert max(ends) <= over


def test_interrupt_ends_a_tls_handshake() -> None:
    """A handshake that goes on ends at once when somebody interrupts it."""
    began = threading.Event()

    def behave(connection: socket.socket) -> None:
        connection.recv(1)
        began.set()
        dribbles(HANDSHAKE, pause=0.02)(connection)

    with tcp_server(behave) as port:
        client = EngineClient(EngineHost(f"tcp://127.0.0.1:{port}", tls_verify=True), 30.0)
        thread = asking(client)
        assert began.wait(5)
        client.interrupt()
        thread.join(2)
        assert not thread.is_alive()


def test_descriptors_of_failed_handshakes_are_given_back() -> None:
    """A server that breaks every handshake off does not use up descriptors."""
    with tcp_server(hangs) as port:
        client = EngineClient(EngineHost(f"tcp://127.0.0.1:{port}", tls_verify=True), 5.0)
        before = descriptors()
        for _ in range(30):
            with pytest.raises(EngineUnreachable):
                client.get("/info")
        assert descriptors() < before + 10


def descriptors() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def asking(client: EngineClient) -> threading.Thread:
    """Have a thread ask; it ends well when the engine turns out to be unreachable."""

    def ask() -> None:
        with pytest.raises(EngineUnreachable):
            client.get("/info")

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


class Names:
    """A resolver that answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.answer = threading.Event()
        self._resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._slow)

    def _slow(self, host: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as the library has it
        if host == "slow.example":
            self.asked += 1
            self.answer.wait(20)
            host = "127.0.0.1"
        return self._resolve(host, *arguments, **options)


def test_a_slow_lookup_is_given_up_in_time(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls end at their deadline while the name is looked up, by one thread in all, and its answer counts at last."""
    names = Names(monkeypatch)
    with tcp_front(engine) as port:
        observer = Observer(EngineClient(EngineHost(f"tcp://slow.example:{port}"), 0.3))
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(EngineTimeout, match="did not answer within"):
                observer.observe()
            assert time.monotonic() - began < 5
        assert names.asked == 1
        names.answer.set()
        assert len(observer.observe().containers) == 2
        observer.close()


def test_interrupt_ends_a_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a name is released at once when somebody interrupts."""
    names = Names(monkeypatch)
    client = EngineClient(EngineHost("tcp://slow.example:1"), 30.0)
    thread = asking(client)
    while not names.asked:
        time.sleep(0.01)
    client.interrupt()
    thread.join(2)
    assert not thread.is_alive()
    names.answer.set()


def test_all_addresses_of_a_name_are_tried(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first address refuses, as localhost's IPv6 one often does, the next is asked."""
    with tcp_front(engine) as port:
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.9", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
        observer = Observer(EngineClient(EngineHost(f"tcp://both.example:{port}"), 5.0))
        assert len(observer.observe().containers) == 2
        observer.close()
