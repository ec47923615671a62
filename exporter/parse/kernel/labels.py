"""`ip -json addrlabel` to labels of addresses of IPv6.

{"address": "fc00::", "prefixlen": 7, "label": 5}
{"address": "fd00:77::", "prefixlen": 64, "ifname": "eth0", "label": 99}
"""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Any

from exporter.errors import ObservationError
from exporter.model.namespace import USUAL_LABELS, AddressLabel
from exporter.parse.fields import integer, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def parse_labels(documents: Sequence[Mapping[str, Any]] | None, indexes: Mapping[str, int]) -> tuple[AddressLabel, ...]:
    """Return labels in their order, the usual ones where none were told. Raises ObservationError for what is none."""
    if documents is None:
        return USUAL_LABELS
    return tuple(
        AddressLabel(_prefix(document), integer(document, "label"), indexes.get(text(document, "ifname"), 0))
        for document in documents
        if not text(document, "ifname") or text(document, "ifname") in indexes
    )


def _prefix(document: Mapping[str, Any]) -> IPv6Network:
    try:
        return IPv6Network((text(document, "address"), integer(document, "prefixlen")))
    except ValueError as error:
        raise ObservationError(f"a label: {error}") from error
