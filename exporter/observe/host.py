"""Where the engine is, as `--docker.host`, DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH mean it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

from docker.errors import DockerException, TLSParameterError
from docker.tls import TLSConfig
from docker.utils import parse_host

from exporter.errors import ConfigError, EngineUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM_SOCKET = Path("/var/run/docker.sock")
ROOTLESS_SOCKET = "docker.sock"
"""Below $XDG_RUNTIME_DIR."""

_PORT, _TLS_PORT = 2375, 2376
_CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")


@dataclass(frozen=True, slots=True)
class EngineHost:
    """The engine's address.

    `url` is unix://, tcp:// or ssh://. tcp speaks TLS when `tls_verify` is set or `cert_path` given; `cert_path`
    holds ca.pem, cert.pem and key.pem, and only `tls_verify` has the engine's certificate checked.
    """

    url: str
    tls_verify: bool = False
    cert_path: Path | None = None

    @classmethod
    def resolve(cls, given: str | None, environ: Mapping[str, str]) -> Self:
        """Return the host that an option gives, else DOCKER_HOST, else the local engine's socket.

        The contexts of the Docker CLI are not followed: what a service watches must not change with somebody's
        `docker context use`. Raises ConfigError for an address that is none.
        """
        # as the SDK has it: set to nothing is "do not verify", and a folder alone turns TLS on
        verify = bool(environ.get("DOCKER_TLS_VERIFY"))
        folder = environ.get("DOCKER_CERT_PATH")
        tls = verify or bool(folder)
        url = (given or environ.get("DOCKER_HOST") or "").strip() or _local(environ)
        host = cls(_with_port(url, tls=tls), verify, Path(folder) if folder else None)
        host.parsed()
        return host

    @property
    def tls(self) -> bool:
        """Whether a tcp connection speaks TLS."""
        return self.tls_verify or self.cert_path is not None

    @property
    def certificates(self) -> Path:
        """The folder of ca.pem, cert.pem and key.pem."""
        return self.cert_path or Path.home() / ".docker"

    @property
    def has_certificate(self) -> bool:
        """Whether there is a certificate to show to the engine."""
        return (self.certificates / "cert.pem").exists()

    def parsed(self) -> str:
        """Return the URL as the SDK's transports name it: http+unix:, http:, https: or ssh:.

        Raises ConfigError for an address that is none.
        """
        try:
            parsed = cast("str", parse_host(self.url, False, self.tls))
        except (DockerException, ValueError) as error:
            raise self._none(error) from error
        if self.url.startswith("ssh:") and not urlsplit(self.url).hostname:
            raise self._none("the host is missing")
        return parsed

    def _none(self, why: object) -> ConfigError:
        return ConfigError(
            f"not the address of an engine, as --docker.host or DOCKER_HOST gives it: {self.url!r} "
            f"(write unix:///var/run/docker.sock, tcp://host:2375 or ssh://user@host): {why}"
        )

    def tls_config(self) -> TLSConfig | None:
        """Return the SDK's TLS settings. Raises EngineUnreachable where a certificate's file is missing."""
        if not self.tls:
            return None
        folder = self.certificates
        ca, cert, key = (folder / name for name in _CERTIFICATES)
        # files that nobody asked for may be missing: the system's authorities, no client certificate
        optional = self.cert_path is None
        try:
            return TLSConfig(
                client_cert=None if optional and not cert.exists() else (str(cert), str(key)),
                ca_cert=None if optional and not ca.exists() else str(ca),
                verify=self.tls_verify,
            )
        except TLSParameterError as error:
            raise EngineUnreachable(f"cannot speak TLS with {self.url}: {error} (looked in {folder})") from error

    def __str__(self) -> str:
        return self.url


def _local(environ: Mapping[str, str]) -> str:
    """Return the system's engine where there is one, else the user's own."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and not SYSTEM_SOCKET.exists():
        rootless = Path(runtime) / ROOTLESS_SOCKET
        if rootless.exists():
            return f"unix://{rootless}"
    return f"unix://{SYSTEM_SOCKET}"


def _with_port(url: str, *, tls: bool) -> str:
    """Add the port that Docker means where a tcp address names none."""
    scheme, separator, rest = url.partition("://")
    authority = rest.partition("/")[0]
    named = authority.rpartition("]")[2].rpartition(":")[2].isdigit()
    if scheme != "tcp" or not separator or not authority or named:
        return url
    port = _TLS_PORT if tls else _PORT
    return f"tcp://{authority.rstrip(':')}:{port}{rest[len(authority) :]}"
