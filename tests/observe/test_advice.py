"""What an error of connecting says, word for word: what failed, why, and what to do."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.errors import EngineRefused, EngineUnreachable
from exporter.observe import advice as advice_module
from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
from tests.fake_engine import response, says
from tests.observe.test_transport import tcp_front

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fake_engine import FakeEngine

SAYS_WHERE = "--docker.host or DOCKER_HOST says where it listens"


def complaint(host: EngineHost) -> str:
    """Return the message of the error that a first request ends with."""
    client = EngineClient(host, 5.0)
    with pytest.raises((EngineUnreachable, EngineRefused)) as caught:
        client.get("/info")
    return str(caught.value)


def test_an_ssh_that_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not find the host, may not be let in, or the other end may have no docker: the CLI tells which."""
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said = complaint(EngineHost("ssh://me@far"))
    assert said.endswith(
        "(ssh has ended: `docker --host ssh://me@far info` must work for this user without a question)"
    )


@pytest.fixture
def unused_port() -> int:
    """Give a TCP port of this machine at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture
def plain_port() -> Iterator[int]:
    """Give the port of a server that answers a TLS handshake as an HTTP server does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_a_missing_socket_asks_whether_the_engine_runs(tmp_path: Path) -> None:
    """No socket file: the engine does not run, or somewhere else."""
    url = f"unix://{tmp_path}/docker.sock"
    assert complaint(EngineHost(url)) == (
        f"cannot reach the engine at {url}: No such file or directory (is the Docker Engine running? {SAYS_WHERE})"
    )


def test_a_socket_without_a_listener_asks_whether_the_engine_runs(engine: FakeEngine) -> None:
    """A socket file that a dead engine left behind: nothing listens at it."""
    engine.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_behind:
        left_behind.bind(str(engine.path))
    assert complaint(EngineHost(engine.url)) == (
        f"cannot reach the engine at {engine.url}: Connection refused "
        f"(nothing listens at this socket: is the Docker Engine running? {SAYS_WHERE})"
    )


def test_a_folder_in_place_of_the_socket_is_explained(tmp_path: Path) -> None:
    """`-v /var/run/docker.sock:…` on a machine without the file makes a folder of that name."""
    assert complaint(EngineHost(f"unix://{tmp_path}")) == (
        f"cannot reach the engine at unix://{tmp_path}: Connection refused "
        "(this is a folder: Docker makes one where a file that is to be mounted is missing)"
    )


ASK = """
import os, sys
from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost
client = EngineClient(EngineHost(sys.argv[1]), 5.0)
os.setgroups([])
os.setgid(65534)
os.setuid(int(sys.argv[2]))
try:
    client.get("/info")
except Exception as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize(
    ("user", "group", "mode", "hint"),
    [
        (65534, 4, 0o660, "user nobody may not use it: add it to group adm, or run as root"),
        (54321, 54322, 0o660, "user 54321 may not use it: add it to group 54322, or run as root"),
        (65534, 4, 0o600, "user nobody may not use it: run as root"),
        (65534, 0, 0o660, "user nobody may not use it: run as root"),
    ],
    ids=["named", "numbered", "for its owner", "of root"],
)
def test_a_socket_of_somebody_else_names_user_and_group(
    engine: FakeEngine, user: int, group: int, mode: int, hint: str
) -> None:
    """Without permission the message names who asked, and the socket's own group, whatever it is called."""
    os.chown(engine.path, 0, group)
    engine.path.chmod(mode)
    engine.path.parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", ASK, engine.url, str(user)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.stdout == f"cannot reach the engine at {engine.url}: Permission denied ({hint})\n", done.stderr


def test_a_socket_that_takes_no_connection_tells_of_a_hanging_engine(engine: FakeEngine) -> None:
    """A full queue of connections means that nobody accepts them."""
    engine.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(engine.path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waiting:
            waiting.connect(str(engine.path))
            assert complaint(EngineHost(engine.url)) == (
                f"cannot reach the engine at {engine.url}: Resource temporarily unavailable "
                "(the engine takes no connections: it may hang, or be stopped)"
            )


@pytest.mark.parametrize(
    ("tls", "port"), [(False, "without TLS it is usually port 2375"), (True, "TLS is usually on port 2376")]
)
def test_a_refused_tcp_connection_tells_the_engines_option(unused_port: int, port: str, tls: bool) -> None:
    """Engines listen on TCP only when they are told to."""
    url = f"tcp://127.0.0.1:{unused_port}"
    assert complaint(EngineHost(url, tls_verify=tls)) == (
        f"cannot reach the engine at {url}: Connection refused "
        f"(nothing listens at this address: does the engine run with --host={url}? {port})"
    )


def test_tls_to_an_engine_without_it_says_so(plain_port: int) -> None:
    """An engine that answers the handshake in plain text does not speak TLS."""
    url = f"tcp://127.0.0.1:{plain_port}"
    message = complaint(EngineHost(url, tls_verify=True))
    assert message.startswith(f"cannot reach the engine at {url}: ")
    assert message.endswith(
        " (the engine does not speak TLS here: unset DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, or name its TLS port)"
    )


WANTS_TLS = (
    " (the engine speaks TLS here: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder of its certificates)"
)


def test_no_tls_to_an_engine_with_it_says_so(engine: FakeEngine) -> None:
    """Engines answer that the client should speak TLS."""
    answer = b"Client sent an HTTP request to an HTTPS server.\n"
    engine.answers["/version"] = lambda connection: connection.sendall(response(answer, "400 Bad Request"))
    assert complaint(EngineHost(engine.url)) == (
        "GET /version: the engine answered 400: Client sent an HTTP request to an HTTPS server." + WANTS_TLS
    )


def test_no_tls_to_a_proxy_with_it_says_so(engine: FakeEngine) -> None:
    """Other servers answer with a TLS alert, which is no HTTP."""
    engine.answers["/version"] = says(b"\x15\x03\x01\x00\x02\x02\x16\r\n")
    with tcp_front(engine) as port:
        url = f"tcp://127.0.0.1:{port}"
        message = complaint(EngineHost(url))
    assert message.startswith(f"cannot reach the engine at {url}: ")
    assert message.endswith(WANTS_TLS)


def test_a_stranger_behind_tls_names_the_authoritys_file(engine: FakeEngine, tls: ssl.SSLContext) -> None:
    """A certificate that does not verify is explained with the file that says who is trusted."""
    with tcp_front(engine, tls) as port:
        url = f"tcp://127.0.0.1:{port}"
        message = complaint(EngineHost(url, tls_verify=True))
    assert message.startswith(f"cannot reach the engine at {url}: ")
    folder = Path.home() / ".docker"
    assert message.endswith(f" (ca.pem in {folder} must be of the authority that signed the engine's certificate)")


def test_a_client_without_certificate_names_the_files(
    engine: FakeEngine, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificates: Path
) -> None:
    """An engine with --tlsverify wants to know who asks, and says so before it ends the handshake of TLS 1.2."""
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "ca.pem").write_bytes((certificates / "ca.pem").read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    with tcp_front(engine, tls) as port:
        url = f"tcp://127.0.0.1:{port}"
        message = complaint(EngineHost(url, tls_verify=True))
    assert message.startswith(f"cannot reach the engine at {url}: ")
    assert message.endswith(
        f" (the engine wants another certificate of ours than cert.pem and key.pem in {tmp_path}/.docker)"
    )


@pytest.mark.parametrize("error", [ssl.SSLEOFError(8, "EOF"), ConnectionResetError(104, "Connection reset by peer")])
def test_a_connection_that_ends_early_may_miss_a_certificate(
    error: OSError, tmp_path: Path, certificates: Path
) -> None:
    """TLS 1.3 may show a client without a certificate no more than the end of the connection."""
    bare = EngineHost("tcp://x:1", tls_verify=True, cert_path=tmp_path)
    assert advice_module.advice(bare, error) == (
        f"the engine may want a certificate of ours: put cert.pem and key.pem into {tmp_path}"
    )
    assert advice_module.advice(EngineHost("tcp://x:1", tls_verify=True, cert_path=certificates), error) == ""


def test_other_errors_get_no_advice() -> None:
    """Where nothing sensible can be said, nothing is, also where errors are each other's causes."""
    first, second = OSError(5, "Input/output error"), ssl.SSLError(1, "odd")
    first.__cause__, second.__cause__ = second, first
    assert advice_module.advice(EngineHost("tcp://x:1"), first) == ""
    assert advice_module.advice(EngineHost("unix:///x"), first) == ""
    assert advice_module.advice(EngineHost("ssh://x"), threading.BrokenBarrierError()) == ""
