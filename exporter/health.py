"""Ask the exporter of this machine whether it is healthy: `python -m exporter.health`, for container health checks.

It finds the address where the exporter found it, in the environment or in the file that this names. It knows no
password, has no certificate and does not verify the exporter's: being asked for a password, or refused for want of a
certificate where the web configuration demands one, is an answer that only an exporter gives that is alive. Exit code
0 is healthy, 1 is not.

Where a file has become wrong since the start, the exporter goes on with what it read before, and any answer is good.
"""

from __future__ import annotations

import os
import ssl
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING

from exporter import webconfig
from exporter.config import CONFIG_FILE, Config, load, parse_listen_address, variable_of
from exporter.errors import ConfigError
from exporter.webconfig import WebConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.webconfig import TlsConfig

TIMEOUT = 3.0


def main() -> int:
    """Return the exit code, after a word on standard error if it is not 0."""
    complaint = _complaint(os.environ)
    if complaint:
        sys.stderr.write(f"{complaint}\n")
    return 1 if complaint else 0


def _complaint(environ: Mapping[str, str]) -> str:
    """Return what is wrong with the exporter's answer; nothing where all is well."""
    try:
        config = load({}, environ)
        web = webconfig.read(config.web_config_file) if config.web_config_file else WebConfig()
    except ConfigError as error:
        return _complaint_of_old_settings(environ, error)
    if config.web_systemd_socket:
        return "--web.systemd-socket: systemd alone knows the address; ask /-/healthy there"
    try:
        status = _status(config, tls=web.tls is not None)
    except _Refused as refused:
        return "" if web.tls and _refuses_us(web.tls) else str(refused)
    except OSError as error:
        return str(error)
    return "" if status in _alive(web) else f"status {status}"


def _complaint_of_old_settings(environ: Mapping[str, str], wrong: ConfigError) -> str:
    """Return what is wrong where the files do not tell how the exporter may be asked: nothing, if it says anything."""
    try:
        config = load({}, {name: text for name, text in environ.items() if name != variable_of(CONFIG_FILE)})
        _status(config, tls=True)
    except _Refused:
        # without TLS it does not understand the question, and says so
        return ""
    except (ConfigError, OSError):
        return str(wrong)
    return ""


class _Refused(Exception):
    """Somebody is there and breaks off."""


def _status(config: Config, *, tls: bool) -> int:
    """Return the status of the answer. Raises _Refused, and OSError where nobody answers in time."""
    connection = _connection(config, tls=tls)
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status
    except TimeoutError as error:
        raise OSError(f"no answer within {TIMEOUT:g} s") from error
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError, HTTPException) as error:
        # where nobody is there, http.client says so with another error
        raise _Refused(str(error)) from error
    finally:
        connection.close()


def _refuses_us(tls: TlsConfig) -> bool:
    """Return whether an exporter breaks off that is well: we have no certificate, and speak no outdated version."""
    return tls.client_auth == webconfig.REQUIRED or tls.max_version in webconfig.OUTDATED


def _alive(web: WebConfig) -> tuple[int, ...]:
    """Return the answers of an exporter that is well to somebody who knows no password."""
    answer = HTTPStatus.UNAUTHORIZED if web.users else HTTPStatus.OK
    return (answer, HTTPStatus.TOO_MANY_REQUESTS) if web.rate_limit else (answer,)


def _connection(config: Config, *, tls: bool) -> HTTPConnection:
    address = parse_listen_address(config.listen_addresses[0])
    # who serves on every address serves on this one
    host = address.host or "127.0.0.1"
    if not tls:
        return HTTPConnection(host, address.port, timeout=TIMEOUT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, address.port, timeout=TIMEOUT, context=context)


if __name__ == "__main__":
    sys.exit(main())
