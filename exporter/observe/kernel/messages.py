"""pyroute2's classes of rtnetlink messages, and nothing else of pyroute2.

To import anything of it is to import all of it: 150 modules (NDB, DHCP, Plan 9, …) which take 8 MiB and which nobody
here uses. Its messages need none of them.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fibmsg", "ifaddrmsg", "ifinfmsg", "rtmsg"]


@contextmanager
def _unopened(name: str) -> Iterator[None]:
    """Let modules of a package be imported without what the package imports itself; not if somebody has done so."""
    spec = find_spec(name)
    if spec is None or name in sys.modules:
        yield
        return
    sys.modules[name] = module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[name]


with _unopened("pyroute2"):
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg
