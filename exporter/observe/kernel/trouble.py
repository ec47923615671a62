"""Why something could not be read, in words for the evidence's readers."""

from __future__ import annotations

import errno
import os


class Unreadable(Exception):
    """A document could not be read; the text is the reason, complete and fit for `KernelDocuments.missing`."""


def reason(error: OSError, what: str, needs: str) -> str:
    """Return what the operating system said about `what`, and what permission it `needs`, if it was about that."""
    said = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"{what}: {said}: {needs} is needed"
    return f"{what}: {said}"
