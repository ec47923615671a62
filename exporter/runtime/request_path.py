"""What a request is for: the path of its target, which may have a host in front of it as for a proxy."""

from __future__ import annotations

import re
from typing import Final

_ABSOLUTE: Final = re.compile(
    rb"https?://(?:\[[0-9a-f:.]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9a-f]{2})+)(?::[0-9]{0,5})?(/.*)?", re.IGNORECASE
)
"""A scheme, a host, perhaps a port, and the path; no name of a user (RFC 9110, 4.2.4)."""


def path_of(target: bytes) -> bytes | None:
    """Return the path of a target without its query; None where it is none that has a path.

    Absolute targets have to be accepted (RFC 9112, 3.2.2). Which scheme and host is no matter, nor is it in the header
    Host: nobody tells us who ends TLS in front of us, and under which name.
    """
    if target.startswith(b"/"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    return (absolute[1] or b"/") if absolute else None
