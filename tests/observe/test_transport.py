"""Ways to an engine: tcp, TLS and ssh."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from exporter.errors import EngineTimeout, EngineUnreachable
from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
from exporter.observe.observer import Observer
from tests.fake_engine import hangs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder as DOCKER_CERT_PATH wants it; its certificate serves the server too."""
    folder = tmp_path_factory.mktemp("certs")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=engine",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    shutil.copy(folder / "cert.pem", folder / "ca.pem")
    return folder


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    """Give a server's TLS that demands the client's certificate, as an engine with --tlsverify does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


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
        assert time.monotonic() - began < 1.5


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
