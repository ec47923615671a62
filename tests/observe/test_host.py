"""What names an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.errors import ConfigError, EngineUnreachable
from exporter.observe import host as host_module
from exporter.observe.client import EngineClient
from exporter.observe.host import EngineHost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def no_system_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a machine without the system's engine."""
    monkeypatch.setattr(host_module, "SYSTEM_SOCKET", tmp_path / "absent.sock")
    return tmp_path


def test_an_option_counts_before_the_environment() -> None:
    """`--docker.host` overrides DOCKER_HOST, which overrides the default."""
    environ = {"DOCKER_HOST": "tcp://env:2375"}
    assert EngineHost.resolve("unix:///given.sock", environ).url == "unix:///given.sock"
    assert EngineHost.resolve(None, environ).url == "tcp://env:2375"
    assert EngineHost.resolve(None, {"DOCKER_HOST": ""}).url.startswith("unix://")


def test_the_default_is_the_systems_engine(no_system_socket: Path) -> None:
    """Without any word about the engine it is /var/run/docker.sock, also where that does not exist yet."""
    assert EngineHost.resolve(None, {}).url == f"unix://{no_system_socket}/absent.sock"


def test_the_users_own_engine_is_found_where_there_is_no_other(no_system_socket: Path) -> None:
    """A rootless engine's socket is used only while the system's is absent and the rootless one exists."""
    environ = {"XDG_RUNTIME_DIR": str(no_system_socket)}
    assert EngineHost.resolve(None, environ).url.endswith("absent.sock")
    (no_system_socket / "docker.sock").touch()
    assert EngineHost.resolve(None, environ).url == f"unix://{no_system_socket}/docker.sock"
    (no_system_socket / "absent.sock").touch()
    assert EngineHost.resolve(None, environ).url.endswith("absent.sock")


def test_the_cli_context_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_CONTEXT changes nothing: what a service watches does not depend on a user's CLI."""
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    assert EngineHost.resolve(None, {"DOCKER_CONTEXT": "elsewhere"}).url.startswith("unix://")


@pytest.mark.parametrize(
    ("environ", "tls", "verify", "parsed"),
    [
        ({}, False, False, "http://h:2375"),
        ({"DOCKER_TLS_VERIFY": ""}, False, False, "http://h:2375"),
        ({"DOCKER_TLS_VERIFY": "1"}, True, True, "https://h:2376"),
        ({"DOCKER_TLS_VERIFY": "0"}, True, True, "https://h:2376"),
        ({"DOCKER_CERT_PATH": "/certs"}, True, False, "https://h:2376"),
        ({"DOCKER_CERT_PATH": "/certs", "DOCKER_TLS_VERIFY": "1"}, True, True, "https://h:2376"),
    ],
)
def test_tls_is_what_dockers_variables_say(environ: dict[str, str], tls: bool, verify: bool, parsed: str) -> None:
    """TLS is on with either variable, verification with a DOCKER_TLS_VERIFY that is not empty; ports follow."""
    host = EngineHost.resolve("tcp://h", environ)
    assert (host.tls, host.tls_verify, host.parsed()) == (tls, verify, parsed)


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("unix:///run/docker.sock", "http+unix:///run/docker.sock"),
        ("tcp://10.0.0.1:2375", "http://10.0.0.1:2375"),
        ("tcp://[::1]:2375", "http://[::1]:2375"),
        ("tcp://[::1]", "http://[::1]:2375"),
        ("tcp://h:2375/prefix", "http://h:2375/prefix"),
        ("10.0.0.1:2375", "http://10.0.0.1:2375"),
        ("ssh://me@h", "ssh://me@h:22"),
    ],
)
def test_addresses_are_understood_as_docker_writes_them(url: str, parsed: str) -> None:
    """The schemes and the short forms that DOCKER_HOST may have lead where the Docker CLI would go."""
    assert EngineHost.resolve(url, {}).parsed() == parsed


@pytest.mark.parametrize(
    "url", ["ftp://h", "tcp://", "npipe", "fd://3", "tcp://h:port", "ssh://h/path", "ssh://", "ssh://me@", "tcp://[::1"]
)
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    """A mistyped address is a configuration error that shows how one looks, not a failing poll."""
    with pytest.raises(ConfigError, match="not the address of an engine"):
        EngineHost.resolve(url, {})


def test_missing_certificates_are_named(tmp_path: Path) -> None:
    """A DOCKER_CERT_PATH without certificates fails the poll with the folder's name, so it may appear later."""
    host = EngineHost.resolve("tcp://127.0.0.1:1", {"DOCKER_CERT_PATH": str(tmp_path), "DOCKER_TLS_VERIFY": "1"})
    with pytest.raises(EngineUnreachable, match=str(tmp_path)):
        EngineClient(host, 1.0).get("/info")
