"""How much is looked at."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from exporter.model.report import Evidence


class Tier(StrEnum):
    """How much evidence is used at most; each has what those before it have."""

    API = "api"
    KERNEL = "kernel"
    SANDBOXES = "sandboxes"

    @property
    def wanted(self) -> Evidence:
        """The sources that are to be read."""
        kernel = self is not Tier.API
        return Evidence(firewall=kernel, bridge=kernel, routes=kernel, sandboxes=self is Tier.SANDBOXES)


DEFAULT: Final = Tier.SANDBOXES
"""Where nobody asked for evidence, all is used that is permitted."""
