"""What to do about a connection that failed, for those who read the error message."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from http.client import BadStatusLine, RemoteDisconnected
from pathlib import Path
from ssl import SSLEOFError, SSLError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.observe.host import EngineHost

_SSH = "ssh has ended: `docker --host {host} info` must work for this user without a question"
_NOT_RUNNING = "is the Docker Engine running? --docker.host or DOCKER_HOST says where it listens"
_WANTS_TLS = (
    "the engine speaks TLS here: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder of its certificates"
)
_NO_TLS = "the engine does not speak TLS here: unset DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, or name its TLS port"
_NO_TLS_SIGNS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}
_CERTIFICATE_SIGNS = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "UNKNOWN_CA", "BAD_CERTIFICATE")
_TLS_RECORDS = (r"\x15\x03", r"\x16\x03")


def advice(host: EngineHost, error: BaseException) -> str:
    """Return what may help against an error of connecting to the engine or of its first answer; empty if nothing."""
    for cause in _causes(error):
        found = _of_file(host, cause) if host.url.startswith("unix:") else _of_network(host, cause)
        if found:
            return found
    return ""


def advice_on_refusal(status: int, message: str) -> str:
    """Return what may help against an answer that is an error itself; empty if nothing."""
    # as Go's HTTP server answers who does not speak TLS with it
    return _WANTS_TLS if status == 400 and "HTTP request to an HTTPS server" in message else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and everything that it was made of."""
    pending, seen = [error], set[int]()
    while pending:
        cause = pending.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            nested = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
            pending += [inner for inner in nested if isinstance(inner, BaseException)]


def _of_file(host: EngineHost, error: BaseException) -> str:
    path = Path(host.url.removeprefix("unix://"))
    if isinstance(error, PermissionError):
        return _permission(path)
    if isinstance(error, FileNotFoundError):
        return _NOT_RUNNING
    if isinstance(error, ConnectionRefusedError):
        if path.is_dir():
            return "this is a folder: Docker makes one where a file that is to be mounted is missing"
        return f"nothing listens at this socket: {_NOT_RUNNING}"
    if isinstance(error, BlockingIOError):
        return "the engine takes no connections: it may hang, or be stopped"
    return ""


def _permission(path: Path) -> str:
    user = _user()
    group = _group(path)
    if group is None:
        return f"user {user} may not use it: run as root"
    return f"user {user} may not use it: add it to group {group}, or run as root"


def _user() -> str:
    identity = os.geteuid()
    try:
        return pwd.getpwuid(identity).pw_name
    except KeyError:
        return str(identity)


def _group(path: Path) -> str | None:
    """Return the group whose members may use a socket; None where there is none, or the way there is closed."""
    try:
        status = path.stat()
    except OSError:
        return None
    # root's own group is nothing to be added to
    if not status.st_mode & stat.S_IWGRP or not status.st_gid:
        return None
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)


def _of_network(host: EngineHost, error: BaseException) -> str:
    if host.url.startswith("ssh:"):
        ended = isinstance(error, (ConnectionResetError, BrokenPipeError, RemoteDisconnected))
        return _SSH.format(host=host) if ended else ""
    if isinstance(error, ConnectionRefusedError):
        port = "TLS is usually on port 2376" if host.tls else "without TLS it is usually port 2375"
        return f"nothing listens at this address: does the engine run with --host={host}? {port}"
    if host.tls and isinstance(error, (SSLEOFError, ConnectionResetError)) and not host.has_certificate:
        return f"the engine may want a certificate of ours: put cert.pem and key.pem into {host.certificates}"
    if isinstance(error, SSLError):
        return _of_tls(host, error)
    if isinstance(error, BadStatusLine) and not host.tls and any(record in repr(error) for record in _TLS_RECORDS):
        return _WANTS_TLS
    return ""


def _of_tls(host: EngineHost, error: SSLError) -> str:
    reason = getattr(error, "reason", None) or ""
    if reason in _NO_TLS_SIGNS:
        return _NO_TLS
    if reason == "CERTIFICATE_VERIFY_FAILED":
        return f"ca.pem in {host.certificates} must be of the authority that signed the engine's certificate"
    if reason.endswith(_CERTIFICATE_SIGNS):
        return f"the engine wants another certificate of ours than cert.pem and key.pem in {host.certificates}"
    return ""
