"""From the settings of TLS to what Python's ssl module calls a context."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter import plainfile
from exporter.errors import ConfigError
from exporter.webconfig import CIPHERS, CURVES, OPTIONAL, OUTDATED, REQUIRED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from exporter.webconfig import Pem, TlsConfig

_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}

_CLIENT_AUTH: Final = {OPTIONAL: ssl.CERT_OPTIONAL, REQUIRED: ssl.CERT_REQUIRED}

_DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"
"""Forward secrecy only, as Go's default."""

_ANY_SECURITY_LEVEL: Final = ":@SECLEVEL=0"
"""OpenSSL 3 speaks TLS 1.0 and 1.1 at no other (SSL_CTX_set_security_level(3)): their handshakes need SHA-1."""

_LARGEST: Final = 1 << 20
"""Bytes; more than this is neither a certificate nor a key."""

_LABEL: Final = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----", re.MULTILINE)
_CERTIFICATE: Final = "CERTIFICATE"
_PRIVATE_KEY: Final = "PRIVATE KEY"

_MISMATCHES: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL calls a key of another certificate: of the same kind, and of another."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What new connections are made with. Without `allowed_sans` every client that the context takes is welcome."""

    context: ssl.SSLContext
    allowed_sans: frozenset[str] = frozenset()

    def welcomes(self, certificate: Mapping[str, Any] | None) -> bool:
        """Return whether one of the names in a client's certificate, as ssl tells them, is on the list."""
        if not self.allowed_sans:
            return True
        names = (certificate or {}).get("subjectAltName", ())
        return any(_san(kind, name) in self.allowed_sans for kind, name in names)


def build(config: TlsConfig) -> Tls:
    """Return what to make connections with; reads the files. Raises ConfigError that names key and file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not config.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _set_versions(context, config)
    _set_ciphers(context, config)
    _load_certificate(context, config.cert, config.key)
    if config.client_ca:
        _load_authority(context, config.client_ca)
        context.verify_mode = _CLIENT_AUTH[config.client_auth]
    return Tls(context, frozenset(_canonical(name) for name in config.allowed_sans))


def _set_versions(context: ssl.SSLContext, config: TlsConfig) -> None:
    with warnings.catch_warnings():
        # Python calls old versions deprecated; who writes one into the file knows
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[config.min_version]
        context.maximum_version = _VERSIONS[config.max_version]


def _set_ciphers(context: ssl.SSLContext, config: TlsConfig) -> None:
    names = ":".join(CIPHERS[suite] for suite in config.ciphers) or _DEFAULT_CIPHERS
    context.set_ciphers(names + (_ANY_SECURITY_LEVEL if config.min_version in OUTDATED else ""))
    if config.curve:
        context.set_ecdh_curve(CURVES[config.curve])


def _load_certificate(context: ssl.SSLContext, cert: Pem, key: Pem) -> None:
    with _as_file(cert, _CERTIFICATE) as cert_path, _as_file(key, _PRIVATE_KEY) as key_path:
        try:
            context.load_cert_chain(cert_path, key_path, password=_no_passphrase)
        except _Encrypted as error:
            raise ConfigError(f"{_named(key)} is encrypted: write it without a passphrase") from error
        except ssl.SSLError as error:
            if error.reason in _MISMATCHES:
                raise ConfigError(f"{_named(key)} does not belong to {_named(cert)}") from error
            raise ConfigError(
                f"{_named(cert)} and {_named(key)}: OpenSSL does not read them: {_reason(error)}"
            ) from error


def _load_authority(context: ssl.SSLContext, authority: Pem) -> None:
    with _as_file(authority, _CERTIFICATE) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise ConfigError(f"{_named(authority)}: OpenSSL does not read it: {_reason(error)}") from error


class _Encrypted(Exception):
    """OpenSSL asks for a passphrase."""


def _no_passphrase() -> str:
    raise _Encrypted


@contextmanager
def _as_file(pem: Pem, wanted: str) -> Iterator[str]:
    """Give a path at which the ssl module, which reads files only, finds a PEM; nothing is written to a disk."""
    content = pem.text.encode() if pem.file is None else _content(pem, pem.file)
    found = [label.decode() for label in _LABEL.findall(content)]
    if not any(label.endswith(wanted) for label in found):
        instead = f"is a {found[0]}, and" if found else "holds no PEM:"
        raise ConfigError(f"{_named(pem)} {instead} no {wanted} (-----BEGIN …)")
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _content(pem: Pem, path: Path) -> bytes:
    try:
        content = plainfile.read(path, _LARGEST)
    except OSError as error:
        raise ConfigError(f"{pem.where}: cannot read {path}: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise ConfigError(f"{_named(pem)} is larger than 1 MiB")
    return content


def _named(pem: Pem) -> str:
    return f"{pem.where} ({pem.file})" if pem.file else pem.where


def _reason(error: ssl.SSLError) -> str:
    """Return what OpenSSL says, without where it says so: `[SSL] PEM lib (_ssl.c:3905)`."""
    return re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", str(error))


def _san(kind: str, name: str) -> str:
    return _canonical(name) if kind == "IP Address" else name


def _canonical(name: str) -> str:
    """Return an address in its shortest form, and any other name as it is."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
