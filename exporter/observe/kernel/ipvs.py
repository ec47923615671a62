"""Virtual services of IPVS in the calling thread's namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from exporter.observe.kernel.programs import SIZE_LIMIT
from exporter.observe.kernel.trouble import Unreadable, reason

_FILE: Final = Path("/proc/thread-self/net/ip_vs")
_SERVER: Final = "  -> "


def read_virtual_services() -> str:
    """Return the services with their real servers, as the kernel lists them, without weights and counters.

    It is empty where there are none, and where the kernel has no IPVS. Raises Unreadable.
    """
    try:
        with _FILE.open(encoding="ascii", errors="replace") as file:
            text = file.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Unreadable(reason(error, str(_FILE), "root")) from error
    if len(text) > SIZE_LIMIT:
        raise Unreadable(f"{_FILE} is larger than {SIZE_LIMIT >> 20} MiB")
    # what comes before the first service are the names of the columns
    _, _, listed = text.partition(f"{_SERVER}RemoteAddress:Port Forward Weight ActiveConn InActConn\n")
    return "".join(f"{_lasting(line)}\n" for line in listed.splitlines())


def _lasting(line: str) -> str:
    """Return what stays of a line from look to look: of a server its address, its port and how packets get there."""
    return f"{_SERVER}{' '.join(line.split()[1:3])}" if line.startswith(_SERVER) else line.rstrip()
