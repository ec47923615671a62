"""Ask the exporter of this machine whether it is healthy: `python -m exporter.health`, for container health checks.

It finds the address where the exporter found it, in the environment or in the file that this names. It knows no
password, has no certificate and does not verify the exporter's: being asked for a password, or refused for want of a
certificate where the web configuration demands one, is an answer that only an exporter gives that is alive. Exit code
0 is healthy, 1 is not.
"""

from __future__ import annotations

import os
import ssl
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from exporter import webconfig
from exporter.config import Config, load, parse_listen_address
from exporter.errors import ConfigError
from exporter.webconfig import WebConfig

TIMEOUT = 3.0


def main() -> int:
    """Return the exit code, after a word on standard error if it is not 0."""
    try:
        config = load({}, os.environ)
        web = webconfig.read(config.web_config_file) if config.web_config_file else WebConfig()
        complaint = _complaint(config, web)
    except ConfigError as error:
        complaint = str(error)
    if complaint:
        sys.stderr.write(f"{complaint}\n")
    return 1 if complaint else 0


def _complaint(config: Config, web: WebConfig) -> str:
    """Return what is wrong with the exporter's answer; nothing where all is well."""
    if config.web_systemd_socket:
        return "--web.systemd-socket: systemd alone knows the address; ask /-/healthy there"
    connection = _connection(config, web)
    try:
        connection.request("GET", "/-/healthy")
        status = connection.getresponse().status
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError, HTTPException) as error:
        # nobody is there: http.client says so with another error
        refused_for_want_of_a_certificate = web.tls is not None and web.tls.client_auth == webconfig.REQUIRED
        return "" if refused_for_want_of_a_certificate else str(error)
    except OSError as error:
        return str(error)
    finally:
        connection.close()
    return "" if status in _alive(web) else f"status {status}"


def _alive(web: WebConfig) -> tuple[int, ...]:
    """Return the answers of an exporter that is well to somebody who knows no password."""
    answer = HTTPStatus.UNAUTHORIZED if web.users else HTTPStatus.OK
    return (answer, HTTPStatus.TOO_MANY_REQUESTS) if web.rate_limit else (answer,)


def _connection(config: Config, web: WebConfig) -> HTTPConnection:
    address = parse_listen_address(config.listen_addresses[0])
    # who serves on every address serves on this one
    host = address.host or "127.0.0.1"
    if web.tls is None:
        return HTTPConnection(host, address.port, timeout=TIMEOUT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, address.port, timeout=TIMEOUT, context=context)


if __name__ == "__main__":
    sys.exit(main())
