"""TLS with real clients: what the web configuration says is what a client meets."""

from __future__ import annotations

import errno
import gc
import os
import random
import socket
import ssl
import threading
import time
import warnings
from asyncio.sslproto import SSLProtocol
from contextlib import contextmanager, suppress
from http.client import HTTPSConnection
from textwrap import indent
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response

from exporter.errors import ConfigError
from exporter.runtime import connection as connection_module
from exporter.runtime import http as http_module
from exporter.runtime.connection import Connection
from exporter.runtime.front import FrontFile
from exporter.runtime.http import HttpServer
from exporter.runtime.listen import bind
from exporter.webconfig import CIPHERS, CURVES
from tests.bench.malformed import requests
from tests.certificates import Authority, Issued

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NO_SECURITY_LEVEL = "DEFAULT:@SECLEVEL=0"


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Give an authority that server and clients trust."""
    return Authority()


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    """Give a folder with the certificate of a server and that of the authority."""
    authority.issue("localhost", "127.0.0.1").save(tmp_path, "server")
    (tmp_path / "ca.crt").write_text(authority.cert)
    return tmp_path


def front_file(folder: Path, *lines: str) -> FrontFile:
    """Return a front with the server's certificate and more lines of `tls_server_config`."""
    path = folder / "web.yml"
    path.write_text("\n".join(["tls_server_config:", *(f"  {line}" for line in (*BOTH, *lines))]))
    return FrontFile(path)


def raising(error: Exception) -> Callable[..., int]:
    """Return a function that does nothing else."""

    def fail(*_: object) -> int:
        raise error

    return fail


BOTH = ("cert_file: server.crt", "key_file: server.key")
CLIENTS = ("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.crt")


class Site:
    """A server behind a front that may be exchanged."""

    def __init__(self, server: HttpServer, port: int, authority: Authority) -> None:
        self.server = server
        self.port = port
        self.authority = authority

    def client(self, certificate: Issued | None = None, folder: Path | None = None) -> ssl.SSLContext:
        """Return what a client that trusts the authority connects with."""
        context = ssl.create_default_context(cadata=self.authority.cert)
        if certificate and folder:
            certificate.save(folder, "client")
            context.load_cert_chain(folder / "client.crt", folder / "client.key")
        return context

    @contextmanager
    def connected(self, context: ssl.SSLContext | None = None) -> Iterator[ssl.SSLSocket]:
        """Give a connection after the handshake."""
        raw = socket.create_connection(("127.0.0.1", self.port), 5)
        with raw, (context or self.client()).wrap_socket(raw, server_hostname="localhost") as connection:
            yield connection

    def status(self, context: ssl.SSLContext | None = None) -> int:
        """Return the status of the answer to a request."""
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context or self.client())
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        finally:
            connection.close()

    def serial(self) -> int:
        """Return the number of the certificate that the server shows now."""
        with self.connected() as connection:
            certificate = connection.getpeercert()
            assert certificate
            return int(str(certificate["serialNumber"]), 16)


@contextmanager
def serving(front: FrontFile, authority: Authority, app: Response | None = None) -> Iterator[Site]:
    """Serve behind a front until the end of the block."""
    (listener,) = bind(["127.0.0.1:0"])
    server = HttpServer([listener], app or Response(b"hello"), front.front)
    server.start()
    try:
        yield Site(server, listener.getsockname()[1], authority)
    finally:
        server.stop()


def refused(site: Site, context: ssl.SSLContext) -> bool:
    """Return whether a client gets no answer; TLS 1.3 tells it only after the handshake."""
    try:
        site.status(context)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


class TestServer:
    def test_a_client_that_verifies_is_answered(self, folder: Path, authority: Authority) -> None:
        """Certificate, host name and protocol are as a careful client wants them: TLS 1.3, http/1.1."""
        with serving(front_file(folder), authority) as site:
            context = site.client()
            context.set_alpn_protocols(["h2", "http/1.1"])
            with site.connected(context) as connection:
                assert connection.version() == "TLSv1.3"
                assert connection.selected_alpn_protocol() == "http/1.1"
            assert site.status() == 200

    def test_certificates_in_the_file_itself(self, tmp_path: Path, authority: Authority) -> None:
        """Inline PEM serves like files do, and nothing is left in the folder."""
        issued = authority.issue("localhost", "127.0.0.1", algorithm="rsa")
        pems = f"cert: |\n{indent(issued.cert, '  ')}\nkey: |\n{indent(issued.key, '  ')}"
        (tmp_path / "web.yml").write_text(f"tls_server_config:\n{indent(pems, '  ')}")
        with serving(FrontFile(tmp_path / "web.yml"), authority) as site:
            assert site.status() == 200
        assert [path.name for path in tmp_path.iterdir()] == ["web.yml"]

    def test_a_client_without_tls_gets_nothing(self, folder: Path, authority: Authority) -> None:
        """Plain HTTP on a TLS port is no answer of the exporter."""
        with serving(front_file(folder), authority) as site:
            with socket.create_connection(("127.0.0.1", site.port), 5) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                with pytest.raises(ConnectionError):  # noqa: PT012 - an end without an answer is as good as a reset
                    assert plain.recv(100) == b""
                    raise ConnectionResetError
            assert site.status() == 200

    @pytest.mark.parametrize(
        ("lines", "offered", "spoken"),
        [
            ((), "TLSv1_2", "TLSv1.2"),
            ((), "TLSv1_1", None),
            (("min_version: TLS13",), "TLSv1_2", None),
            (("max_version: TLS12",), "TLSv1_3", "TLSv1.2"),
            (("min_version: TLS10", "max_version: TLS11"), "TLSv1_3", "TLSv1.1"),
            (("min_version: TLS10",), "TLSv1", "TLSv1"),
            (("cipher_suites: [TLS_AES_128_GCM_SHA256]",), "TLSv1_2", None),
        ],
    )
    def test_versions(
        self, folder: Path, authority: Authority, lines: tuple[str, ...], offered: str, spoken: str | None
    ) -> None:
        """A client that speaks everything up to a version meets the one that the file allows, or none."""
        with serving(front_file(folder, *lines), authority) as site:
            context = site.client()
            context.set_ciphers(NO_SECURITY_LEVEL)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion[offered]
            if spoken is None:
                assert refused(site, context)
            else:
                with site.connected(context) as connection:
                    assert connection.version() == spoken

    @pytest.mark.parametrize("suite", CIPHERS)
    def test_every_cipher_suite_of_go_is_spoken(self, folder: Path, authority: Authority, suite: str) -> None:
        """A server that allows one suite speaks that one, and refuses a client that has only others."""
        authority.issue("localhost", "127.0.0.1", algorithm="rsa" if "RSA" in suite else "ec").save(folder, "server")
        with serving(front_file(folder, f"cipher_suites: [{suite}]"), authority) as site:
            context = site.client()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("ALL")
            with site.connected(context) as connection:
                spoken = connection.cipher()
            assert spoken
            assert spoken[0] == CIPHERS[suite]
            context.set_ciphers("DHE-RSA-AES256-SHA256")
            assert refused(site, context)

    @pytest.mark.parametrize(("preference", "spoken"), [("true", "AES256-GCM-SHA384"), ("false", "AES128-GCM-SHA256")])
    def test_whose_order_of_ciphers_counts(
        self, folder: Path, authority: Authority, preference: str, spoken: str
    ) -> None:
        """The server's own, or the client's where the file says so."""
        suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
        lines = f"cipher_suites: [{suites}]", f"prefer_server_cipher_suites: {preference}"
        with serving(front_file(folder, *lines), authority) as site:
            context = site.client()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
            with site.connected(context) as connection:
                cipher = connection.cipher()
            assert cipher
            assert cipher[0] == f"ECDHE-ECDSA-{spoken}"

    @pytest.mark.parametrize("curve", CURVES)
    def test_a_curve_is_the_only_one(self, folder: Path, authority: Authority, curve: str) -> None:
        """A client with the same curve is answered, one with only another is not."""
        authority.issue("localhost", "127.0.0.1", algorithm="rsa").save(folder, "server")
        with serving(front_file(folder, f"curve_preferences: [{curve}]"), authority) as site:
            for other in CURVES:
                context = site.client()
                context.set_ecdh_curve(CURVES[other])
                assert refused(site, context) is (other != curve)


class TestClients:
    def test_a_certificate_is_demanded(self, folder: Path, authority: Authority) -> None:
        """Of the authority: with none, or one of somebody else's, nobody is answered."""
        with serving(front_file(folder, *CLIENTS), authority) as site:
            assert refused(site, site.client())
            assert refused(site, site.client(Authority("other").issue("prometheus"), folder))
            assert site.status(site.client(authority.issue("prometheus"), folder)) == 200

    def test_a_certificate_may_be_given(self, folder: Path, authority: Authority) -> None:
        """Clients without one are answered, those with somebody else's are not."""
        lines = "client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.crt"
        with serving(front_file(folder, *lines), authority) as site:
            assert site.status() == 200
            assert refused(site, site.client(Authority("other").issue("prometheus"), folder))
            assert site.status(site.client(authority.issue("prometheus"), folder)) == 200

    @pytest.mark.parametrize(
        ("allowed", "names", "welcome"),
        [
            ("prometheus.example.com", ["prometheus.example.com"], True),
            ("prometheus.example.com", ["other", "prometheus.example.com"], True),
            ("prometheus.example.com", ["evil.example.com"], False),
            ("prometheus.example.com", ["a.prometheus.example.com"], False),
            ("prometheus.example.com", ["*.example.com"], False),
            ("prometheus.example.com", [], False),
            ("10.0.0.1", ["10.0.0.1"], True),
            ("10.0.0.1", ["10.0.0.2"], False),
            ("'2001:db8::1'", ["2001:db8::1"], True),
            ("'2001:0DB8:0::0001'", ["2001:db8::1"], True),
            ("'2001:db8::2'", ["2001:db8::1"], False),
            ("ops@example.com", ["ops@example.com"], True),
            ("'spiffe://example.com/prometheus'", ["spiffe://example.com/prometheus"], True),
            ("'spiffe://example.com/prometheus'", ["spiffe://example.com/other"], False),
        ],
    )
    def test_names_of_clients(
        self, folder: Path, authority: Authority, allowed: str, names: list[str], welcome: bool
    ) -> None:
        """One of the certificate's alternative names is exactly one of the list; the common name is none of them."""
        with serving(front_file(folder, *CLIENTS, f"client_allowed_sans: [{allowed}]"), authority) as site:
            client = site.client(authority.issue(*names), folder)
            assert refused(site, client) is not welcome

    def test_who_was_refused_is_logged(
        self, folder: Path, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With the names that the certificate has, so that a missing one can be added."""
        with serving(front_file(folder, *CLIENTS, "client_allowed_sans: [one]"), authority) as site:
            assert refused(site, site.client(authority.issue("two", "three"), folder))
        (record,) = (record for record in caplog.records if "allowed" in record.message)
        assert (vars(record)["client"], vars(record)["names"]) == ("127.0.0.1", "two, three")


class TestRotation:
    def test_a_new_certificate_is_shown_to_new_connections(self, folder: Path, authority: Authority) -> None:
        """A connection that was there before gets its answer by the old one, and is then closed."""
        front = front_file(folder)
        with serving(front, authority) as site:
            before = site.serial()
            old = HTTPSConnection("127.0.0.1", site.port, timeout=5, context=site.client())
            old.request("GET", "/")
            assert old.getresponse().read() == b"hello"
            authority.issue("localhost", "127.0.0.1").save(folder, "server")
            assert front.changed()
            site.server.door.front = front.front
            assert site.serial() != before
            old.request("GET", "/")
            answer = old.getresponse()
            assert (answer.read(), answer.headers["Connection"]) == (b"hello", "close")
            old.close()

    def test_nothing_changed_is_nothing_read(self, folder: Path) -> None:
        """Looking at the files is enough to know."""
        front = front_file(folder)
        before = front.front
        assert not front.changed()
        assert front.front is before

    def test_half_a_rotation_keeps_the_last_good_one(self, folder: Path, authority: Authority) -> None:
        """A new certificate with the old key is refused by name, once; when the key follows, both count."""
        front = front_file(folder)
        issued = authority.issue("localhost", "127.0.0.1")
        before = front.front
        (folder / "server.crt").write_text(issued.cert)
        message = rf"web.yml:3: tls_server_config.key_file \({folder}/server.key\) does not belong to .*server.crt"
        with pytest.raises(ConfigError, match=message):
            front.changed()
        assert front.front is before
        assert not front.changed()
        (folder / "server.key").write_text(issued.key)
        assert front.changed()
        assert front.front is not before

    def test_a_file_that_vanishes_and_comes_back(self, folder: Path) -> None:
        """The last good one stays in force meanwhile."""
        front = front_file(folder)
        content = (folder / "web.yml").read_text()
        (folder / "web.yml").unlink()
        with pytest.raises(
            ConfigError, match=r"cannot read the web configuration file .*web.yml: No such file or directory"
        ):
            front.changed()
        assert not front.changed()
        (folder / "web.yml").write_text(content)
        assert front.changed()

    def test_a_reload_that_runs_short_keeps_the_last_good_one(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without a descriptor to hand a key over there is no new front, and no end of the old one."""
        front = front_file(folder)
        before = front.front
        (folder / "web.yml").touch()
        with monkeypatch.context() as patch:
            patch.setattr(os, "memfd_create", raising(OSError(errno.EMFILE, "Too many open files")))
            with pytest.raises(ConfigError, match="Too many open files"):
                front.changed()
        assert front.front is before

    def test_a_secret_that_is_a_link_to_a_link(self, folder: Path, authority: Authority) -> None:
        """Orchestrators exchange the folder behind a link; only what the link leads to has changed."""
        for name in ("one", "two"):
            (folder / name).mkdir()
            authority.issue("localhost", "127.0.0.1").save(folder / name, "server")
        (folder / "data").symlink_to("one")
        for name in ("server.crt", "server.key"):
            (folder / name).unlink()
            (folder / name).symlink_to(f"data/{name}")
        front = front_file(folder)
        assert not front.changed()
        (folder / "new").symlink_to("two")
        (folder / "new").rename(folder / "data")
        assert front.changed()

    def test_tls_may_begin_and_end_while_it_serves(self, folder: Path, authority: Authority) -> None:
        """Whatever the file says counts for the next connection."""
        front = front_file(folder)
        with serving(front, authority) as site:
            (folder / "web.yml").write_text("{}")
            assert front.changed()
            site.server.door.front = front.front
            with socket.create_connection(("127.0.0.1", site.port), 5) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert plain.recv(100).startswith(b"HTTP/1.1 200")


GARBLED = "-----BEGIN CERTIFICATE-----\nanVuaw==\n-----END CERTIFICATE-----\n"


class TestBadFiles:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("server.crt", None, r"web.yml:2: tls_server_config.cert_file: cannot read .*server.crt: No such file"),
            ("server.key", None, r"web.yml:3: tls_server_config.key_file: cannot read .*server.key: No such file"),
            (
                "server.crt",
                "junk",
                r"web.yml:2: tls_server_config.cert_file \(.*server.crt\) holds no PEM: no CERTIFICATE",
            ),
            (
                "server.key",
                "junk",
                r"web.yml:3: tls_server_config.key_file \(.*server.key\) holds no PEM: no PRIVATE KEY",
            ),
            ("server.crt", GARBLED, r"cert_file \(.*\) and .*key_file \(.*\): OpenSSL does not read them: PEM lib$"),
            (
                "server.crt",
                "other",
                r"cert_file \(.*server.crt\) is a PRIVATE KEY, and no CERTIFICATE \(-----BEGIN …\)$",
            ),
            ("server.key", GARBLED, r"key_file \(.*server.key\) is a CERTIFICATE, and no PRIVATE KEY"),
            ("ca.crt", "other", r"client_ca_file \(.*ca.crt\) is a PRIVATE KEY, and no CERTIFICATE"),
            ("server.key", "encrypted", r"key_file \(.*server.key\) is encrypted: write it without a passphrase"),
            ("server.key", "other kind", r"key_file \(.*server.key\) does not belong to .*cert_file \(.*server.crt\)"),
            ("server.key", "other", r"key_file \(.*server.key\) does not belong to .*cert_file \(.*server.crt\)"),
            ("ca.crt", None, r"web.yml:5: tls_server_config.client_ca_file: cannot read .*ca.crt: No such file"),
            (
                "ca.crt",
                GARBLED,
                r"web.yml:5: tls_server_config.client_ca_file \(.*ca.crt\): OpenSSL does not read it: .",
            ),
            ("ca.crt", "", r"web.yml:5: tls_server_config.client_ca_file \(.*ca.crt\) holds no PEM"),
            ("server.crt", "x" * (1 << 20) + "x", r"cert_file \(.*server.crt\) is larger than 1 MiB"),
        ],
    )
    def test_key_and_file_are_named(
        self, folder: Path, authority: Authority, name: str, content: str | None, message: str
    ) -> None:
        """A certificate, key or authority that is none is refused at once, with the reason."""
        other = authority.issue("localhost")
        (folder / name).unlink()
        if content is not None:
            rsa = authority.issue("localhost", algorithm="rsa").key if content == "other kind" else ""
            keys = {"encrypted": other.encrypted_key, "other": other.key, "other kind": rsa}
            (folder / name).write_text(keys.get(content, content))
        with pytest.raises(ConfigError, match=message):
            front_file(folder, *CLIENTS)


class TestPatience:
    def test_a_handshake_has_its_time(
        self, folder: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client that never begins, or never ends, its handshake loses its connection; others do not wait for it."""
        monkeypatch.setattr(http_module, "HANDSHAKE", 0.3)
        with serving(front_file(folder), authority) as site:
            slow = [socket.create_connection(("127.0.0.1", site.port), 5) for _ in range(20)]
            for connection in slow[10:]:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            assert site.status() == 200
            for connection in slow:
                with connection, pytest.raises(ConnectionError):  # noqa: PT012 - an end is as good as a reset
                    assert connection.recv(100) == b""
                    raise ConnectionResetError

    def test_a_reader_that_does_not_read_is_left(
        self, folder: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What waits to be encrypted counts as what waits to be sent."""
        monkeypatch.setattr(connection_module, "PATIENCE", 0.2)
        with serving(front_file(folder), authority, Response(b"x" * (8 << 20))) as site, site.connected() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(1.0)
            with pytest.raises((ConnectionError, ssl.SSLEOFError)):  # noqa: PT012 - who notices is the kernel's matter
                while connection.recv(1 << 16):
                    pass
                raise ConnectionResetError

    def test_malformed_requests_within_tls_and_without(
        self, folder: Path, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nothing of it is an error to be logged, and the next client is answered."""
        with serving(front_file(folder), authority) as site:
            for number, request in enumerate(requests(300, random.Random(3))):
                with suppress(OSError), socket.create_connection(("127.0.0.1", site.port), 5) as raw:
                    if number % 2:
                        raw.sendall(request)
                        raw.shutdown(socket.SHUT_WR)
                        raw.recv(100)
                    else:
                        with site.client().wrap_socket(raw, server_hostname="localhost") as connection:
                            connection.sendall(request)
                            connection.settimeout(0.01)
                            connection.recv(100)
            assert site.status() == 200
        assert [record.message for record in caplog.records if record.levelname != "DEBUG"] == []

    def test_two_hundred_idle_tls_clients_cost_no_thread(self, folder: Path, authority: Authority) -> None:
        """Handshakes and idle connections are the event loop's matter alone."""
        with serving(front_file(folder), authority) as site:
            assert site.status() == 200
            before = threading.active_count()
            context = site.client()
            idle = []
            for _ in range(200):
                raw = socket.create_connection(("127.0.0.1", site.port), 5)
                idle.append(context.wrap_socket(raw, server_hostname="localhost"))
            assert site.status() == 200
            assert threading.active_count() == before
            for connection in idle:
                connection.close()

    def test_connections_leave_no_garbage(self, folder: Path, authority: Authority) -> None:
        """What they cost is given back when they end, and not at the next garbage collection."""
        with serving(front_file(folder), authority) as site:
            assert site.status() == 200
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    assert site.status() == 200
                    with site.connected():
                        pass
                    with socket.create_connection(("127.0.0.1", site.port), 5) as plain:
                        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                        with suppress(ConnectionError):
                            plain.recv(100)
                deadline = time.monotonic() + 5
                while left := [each for each in gc.get_objects() if isinstance(each, Connection | SSLProtocol)]:
                    assert time.monotonic() < deadline, left
                    del left
                    time.sleep(0.05)
            finally:
                gc.enable()
