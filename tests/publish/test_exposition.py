"""Formats and their negotiation."""

from __future__ import annotations

import gzip
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.publish.exposition import Format, accepts_gzip, negotiate, render
from exporter.publish.text import encodable
from tests.builders import drifting, engine, network, published, report, small_town
from tests.lab.packages import unpacked
from tests.publish.strategies import headers, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from exporter.publish.state import Published

OM, TEXT, TEXT_1 = Format.OPENMETRICS_1_0_0, Format.TEXT_0_0_4, Format.TEXT_1_0_0

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("text/plain", TEXT),
        ("application/*", OM),
        (BROWSER, TEXT),
        (PROMETHEUS_2, OM),
        (PROMETHEUS_3, OM),
        ("application/openmetrics-text", OM),
        ("APPLICATION/OpenMetrics-Text; VERSION=1.0.0", OM),
        ('application/openmetrics-text; version="1.0.0"', OM),
        ('text/plain; charset="a,b;version=9"; version="1.0.0"', TEXT_1),
        ("application/openmetrics-text;version=2.0.0,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;version=abc", TEXT),
        ("application/openmetrics-text;version=", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;version=0.0.4;q=0.2", TEXT),
        ("application/openmetrics-text;q=0,*/*", TEXT),
        ("text/plain;q=0, text/plain;version=1.0.0;q=0, */*;q=0.1", OM),
        ("*/*;q=0", TEXT),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=banana", OM),
    ],
)
def test_the_wanted_format_is_chosen(accept: str | None, expected: Format) -> None:
    """The most specific range decides on a format, the highest quality among formats, the oldest text among equals."""
    assert negotiate(accept)[0] is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROMETHEUS_3, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
        ("text/plain;version=1.0.0;escaping=dots", "text/plain; version=1.0.0; charset=utf-8; escaping=dots"),
        ("text/plain;version=1.0.0;escaping=x", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("text/plain;version=0.0.4;escaping=dots", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_format_is_announced(accept: str | None, expected: str) -> None:
    """The Content-Type names the version that is sent and echoes a known escaping scheme."""
    assert negotiate(accept)[1] == expected


@pytest.mark.parametrize("padding", [",", "a,", "*/*;q=0.1,", '"'])
def test_a_header_that_is_too_long_says_nothing(padding: str) -> None:
    """Taking one of 64 KiB apart would make all other clients wait for most of a second."""
    long = "application/openmetrics-text;version=1.0.0," + padding * (64_000 // len(padding))
    began = time.perf_counter()
    assert negotiate(long)[0] is Format.TEXT_0_0_4
    assert not accepts_gzip(f"gzip,{long}")
    assert time.perf_counter() - began < 0.1


@given(headers)
def test_no_header_breaks_the_negotiation(header: str) -> None:
    """Any header gives one of the offered formats, announced in one line of ASCII."""
    chosen, content_type = negotiate(header)
    assert content_type.startswith(chosen.content_type)
    assert content_type.isascii()
    assert content_type.isprintable()
    assert accepts_gzip(header) in (True, False)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("*", True),
        ("*, gzip;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip", True),
        ("br", False),
    ],
)
def test_gzip_is_sent_to_those_who_want_it(header: str | None, expected: bool) -> None:
    """Compression follows the qualities; without a header there is none."""
    assert accepts_gzip(header) is expected


PARSERS: dict[Format, Callable[[str], Iterable[Metric]]] = {
    TEXT: text_string_to_metric_families,
    TEXT_1: text_string_to_metric_families,
    OM: openmetrics.text_string_to_metric_families,
}


def values(state: Published, wanted: Format) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Parse one format back into samples by name and labels."""
    families = PARSERS[wanted](render(state)[wanted.name].plain.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


@settings(max_examples=60)
@given(network_name=names, driver=names, version=names)
def test_any_name_comes_back_out_of_every_format(network_name: str, driver: str, version: str) -> None:
    """Labels survive rendering and parsing, whatever is in them, and every format shows the same values."""
    networks = [network(network_name, driver)]
    state = published(report(networks=networks, engine_summary=engine(version=version)))
    text = values(state, TEXT)
    labels = frozenset({("network", encodable(network_name)), ("driver", encodable(driver))})
    assert ("docker_icc_network_containers", labels) in text
    assert values(state, TEXT_1) == text
    assert values(state, OM) == text


def test_all_formats_of_a_state_show_the_same_values() -> None:
    """One collection feeds all formats: even the measurements of the process are equal."""
    bodies = render(published(small_town()))
    lines = {
        name: {line for line in body.plain.decode().splitlines() if line[0] != "#"} for name, body in bodies.items()
    }
    assert lines[TEXT.name] == lines[TEXT_1.name] == lines[OM.name]


def test_types_are_announced_as_each_format_demands() -> None:
    """Counters keep their suffix in the text formats and lose it in OpenMetrics; nothing has a creation time."""
    bodies = render(published(small_town()))
    text, om = (bodies[each.name].plain.decode() for each in (TEXT, OM))
    assert "# TYPE docker_icc_exporter_polls_total counter\n" in text
    assert "# TYPE docker_icc_exporter_polls counter\n" in om
    assert "# TYPE reachable_pairs_total gauge\n" in text
    assert "# TYPE reachable_pairs_total gauge\n" in om
    assert "_created" not in text + om
    assert om.endswith("# EOF\n")


def test_compressed_bodies_are_the_plain_ones() -> None:
    """The gzip body unpacks to the plain one and bears no time of its making."""
    for body in render(published(small_town())).values():
        assert gzip.decompress(body.gzip) == body.plain
        assert body.gzip[4:8] == b"\0\0\0\0"


@pytest.mark.lab
def test_promtool_has_one_complaint() -> None:
    """Prometheus's linter prints exactly the line that the wished-for name of a gauge earns, and no other."""
    body = render(published(drifting()))[TEXT.name].plain
    promtool = unpacked("prometheus-2.42") / "usr/bin/promtool"
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    expected = 'reachable_pairs_total non-counter metrics should not have "_total" suffix\n'
    assert (checked.stdout + checked.stderr).decode() == expected
