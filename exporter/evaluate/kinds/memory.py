"""What was found out about kinds at the look before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.evaluate.kinds.dead import DeadMemory
from exporter.evaluate.kinds.kept import Kept
from exporter.evaluate.kinds.survey import SurveyMemory
from exporter.evaluate.kinds.unrolled import UnrolledMemory

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from exporter.evaluate.kinds.directory import Leads
    from exporter.evaluate.kinds.told import Told
    from exporter.evaluate.kinds.unremarkable import Own


@dataclass(slots=True)
class KindsMemory:
    """What was found out at the look before, and need not be again where it follows from the same.

    `unread` are the ports of networks' bridges that lead to those who are no containers and were not read.
    """

    told: Kept[Told] = field(default_factory=Kept)
    living: DeadMemory = field(default_factory=DeadMemory)
    unrolled: UnrolledMemory = field(default_factory=UnrolledMemory)
    survey: SurveyMemory = field(default_factory=SurveyMemory)
    inside: Kept[Own] = field(default_factory=Kept)
    leads: Kept[Leads] = field(default_factory=Kept)
    places: Kept[Hashable] = field(default_factory=Kept)
    bridges: Kept[Hashable] = field(default_factory=Kept)
    settings: Kept[Mapping[str, Hashable]] = field(default_factory=Kept)
    unread: Sequence[str] = ()
