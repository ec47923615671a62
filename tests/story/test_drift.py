"""A host whose rules somebody changed behind its engine's back: which pairs that concerns, and what decides."""

from __future__ import annotations

import html
import json
import re

import pytest

from exporter.publish.text import visible
from tests.cli.program import run
from tests.cli.service import ANY_PORT, service
from tests.lab import VERSIONS, engine
from tests.story.gauges import POLL
from tests.story.truth import truth

pytestmark = pytest.mark.lab

OPENED = "-i docker0 -o docker0 -p tcp -m tcp --dport 7777 -j ACCEPT"
CLOSED = "-o docker0 -p tcp -m tcp --dport 80 -j DROP"


@pytest.mark.parametrize("version", VERSIONS)
def test_drift_names_the_pairs_and_the_cause(version: str) -> None:
    """Report, page and command line have the same pairs and words, and both are what packets find."""
    with engine(version, "--icc=false") as made:
        for name, *flags in (("web", "--expose=80"), ("app", "--link=web"), ("client",)):
            made.run(name, *flags)
        for rule in (OPENED, CLOSED):
            made.on_host("iptables", "-I", "DOCKER-USER", *rule.split())
        promised = json.loads(run("report", "--format=json", "--evidence.max=api", DOCKER_HOST=made.host).stdout)
        evidence = ("--evidence.max=sandboxes", f"--host.netns={made.netns}")
        with service(ANY_PORT, POLL, f"--docker.host={made.host}", *evidence) as exporter:
            exporter.seconds_until(lambda samples: samples.get("docker_icc_up") == 1, 5)
            document, page = json.loads(exporter.get("/api/v1/report")), exporter.get("/")
        table = run("report", *evidence, DOCKER_HOST=made.host).stdout
        found = truth(made).pairs
    assert {(each["source"], each["destination"]) for each in document["pairs"]} == found
    before = {(each["source"], each["destination"]) for each in promised["pairs"]}
    drift = {(each["source"], each["destination"]): each["decided_by"] for each in document["drift"]}
    assert drift.keys() == found ^ before
    assert drift
    shown = html.unescape(re.sub(r"<[^>]*>", "|", page))
    for (source, destination), decided in drift.items():
        assert decided.startswith("host: ip filter DOCKER-USER rule 2 ")
        assert decided.endswith(": accept")
        assert f"|{visible(decided)}|" in shown
        assert re.search(rf"^{source} +{destination} .* {re.escape(visible(decided))}$", table, re.MULTILINE)
