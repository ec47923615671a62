"""Ask the exporter of this machine whether it is healthy: `python -m exporter.health`, for container health checks.

It finds the address where the exporter found it, in the environment or in the file that this names. Exit code 0 is
healthy, 1 is not.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException

from exporter.config import load, parse_listen_address
from exporter.errors import ConfigError

TIMEOUT = 3.0


def main() -> int:
    """Return the exit code, after a word on standard error if it is not 0."""
    try:
        address = parse_listen_address(load({}, os.environ).listen_addresses[0])
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # who serves on every address serves on this one
    connection = HTTPConnection(address.host or "127.0.0.1", address.port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/-/healthy")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        connection.close()
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
