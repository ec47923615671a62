"""An exporter behind a closed front door, and what a Prometheus has to say to get in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bcrypt

if TYPE_CHECKING:
    from pathlib import Path

    from tests.certificates import Authority

WEB = """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example.com]
basic_auth_users:
  prometheus: {hashed}
"""


def close(folder: Path, authority: Authority) -> Path:
    """Write a web configuration that lets one client in, with a certificate and a password, and return its path."""
    authority.issue("127.0.0.1").save(folder, "server")
    authority.issue("prometheus.example.com").save(folder, "client")
    (folder / "ca.crt").write_text(authority.cert)
    file = folder / "web.yml"
    file.write_text(WEB.format(hashed=bcrypt.hashpw(b"wonder", bcrypt.gensalt(10)).decode()))
    return file


def settings(folder: Path, password: str = "wonder", certificate: str = "client") -> tuple[str, ...]:
    """Return what a job says of the front whose files are in a folder."""
    own = folder / certificate
    files = f"ca_file: {folder / 'ca.crt'}, cert_file: {own}.crt, key_file: {own}.key"
    return "scheme: https", f"tls_config: {{{files}}}", f"basic_auth: {{username: prometheus, password: {password}}}"
