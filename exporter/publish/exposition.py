"""The metrics as bytes, once per state, and the choice of a format for a scraper.

One collection feeds every format, so that all of them show the same values. Names and labels of the metrics are
plain ASCII, which makes the two text formats the same bytes and satisfies every escaping scheme.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.request import parse_http_list

from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from exporter.publish.metrics import families
from exporter.publish.state import Body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client.metrics_core import Metric

    from exporter.publish.state import Published

_GZIP_LEVEL = 6  # a tenth of the time of level 9 on 10,000 series, for the same size within a few percent
_ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")

_LONGEST = 1024
"""Characters of a header; Prometheus' Accept has some 300. Others wait while one is taken apart."""


class Format(Enum):
    """An exposition format, by media type and version. The order is the preference among equals."""

    TEXT_0_0_4 = ("text/plain", "0.0.4")
    TEXT_1_0_0 = ("text/plain", "1.0.0")
    OPENMETRICS_1_0_0 = ("application/openmetrics-text", "1.0.0")

    @property
    def media_type(self) -> str:
        """The type without parameters."""
        return self.value[0]

    @property
    def version(self) -> str:
        """The version that the client asks for and is told."""
        return self.value[1]

    @property
    def content_type(self) -> str:
        """The header that announces this format."""
        return f"{self.media_type}; version={self.version}; charset=utf-8"


class _Collected(Collector):
    """Families that were collected before, to be rendered several times."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def render(published: Published) -> Mapping[str, Body]:
    """Return the expositions of a state by the name of their format."""
    collected = _Collected(list(families(published)))
    plain = _body(text.generate_latest(collected))
    return {
        Format.TEXT_0_0_4.name: plain,
        Format.TEXT_1_0_0.name: plain,
        Format.OPENMETRICS_1_0_0.name: _body(_openmetrics(collected)),
    }


def _openmetrics(collected: Collector) -> bytes:
    rendered: bytes = openmetrics.generate_latest(collected)  # type: ignore[no-untyped-call]  # the library's gap
    return rendered


def _body(plain: bytes) -> Body:
    # Without a time stamp the same metrics are the same bytes.
    return Body(plain=plain, gzip=gzip.compress(plain, _GZIP_LEVEL, mtime=0))


@dataclass(frozen=True, slots=True)
class _Range:
    """One element of an Accept or Accept-Encoding header."""

    value: str
    parameters: Mapping[str, str]
    quality: float


_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)')
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def negotiate(accept: str | None) -> tuple[Format, str]:
    """Return the format that an Accept header asks for and the Content-Type to announce it with.

    Where nothing offered is acceptable the answer is the oldest text format, which every scraper reads.
    """
    ranges = _ranges(accept or "")
    choices = [(_best_match(each, ranges), each) for each in Format]
    acceptable = [(match, each) for match, each in choices if match and match.quality > 0]
    if not acceptable:
        return Format.TEXT_0_0_4, Format.TEXT_0_0_4.content_type
    # max() keeps the first of equals: the order of Format.
    match, chosen = max(acceptable, key=lambda choice: choice[0].quality)
    return chosen, chosen.content_type + _escaping(chosen, match)


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether an Accept-Encoding header prefers gzip to, or likes it as much as, no compression."""
    qualities = {each.value: each.quality for each in _ranges(accept_encoding or "")}
    compressed = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return compressed > 0 and compressed >= qualities.get("identity", 0.0)


def _ranges(header: str) -> list[_Range]:
    """Return the elements of a header; one that is too long says nothing."""
    return [_range(element) for element in parse_http_list(header) if element] if len(header) <= _LONGEST else []


def _range(element: str) -> _Range:
    value = element.partition(";")[0].strip().lower()
    pairs: list[tuple[str, str]] = _PARAMETER.findall(element)
    parameters = {name.lower(): _unquoted(text) for name, text in pairs}
    quality = parameters.get("q", "")
    return _Range(value, parameters, float(quality) if _QUALITY.fullmatch(quality) else 1.0)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') and value.endswith('"') else value


def _best_match(offered: Format, ranges: list[_Range]) -> _Range | None:
    """Return the most specific range that covers a format: its quality is the one that counts (RFC 9110, 12.5.1)."""
    matches = [(_specificity(offered, each), each) for each in ranges]
    specificity, best = max(matches, key=lambda match: match[0], default=(0, None))
    return best if specificity else None


def _specificity(offered: Format, wanted: _Range) -> int:
    """Return 0 for a range that does not cover the format, and more the closer it names it."""
    if wanted.value == offered.media_type:
        # A bare text/plain has always meant the first version, a bare OpenMetrics its only one.
        version = wanted.parameters.get("version")
        if version is None:
            return 3 if offered is not Format.TEXT_1_0_0 else 0
        return 4 if version == offered.version else 0
    if wanted.value == offered.media_type.partition("/")[0] + "/*":
        return 2
    return 1 if wanted.value == "*/*" else 0


def _escaping(chosen: Format, match: _Range) -> str:
    """Echo how names are escaped to those who asked for a version that knows of it."""
    if chosen is Format.TEXT_0_0_4 or "version" not in match.parameters:
        return ""
    wanted = match.parameters.get("escaping", "")
    return f"; escaping={wanted if wanted in _ESCAPINGS else 'underscores'}"
