"""How much is looked at."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """How much evidence is used at most; each has what those before it have."""

    API = "api"
    KERNEL = "kernel"
    SANDBOXES = "sandboxes"
