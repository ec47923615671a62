"""What is remembered of the look before changes nothing of what the next one means."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import ObservationError
from exporter.model.observation import KernelDocuments
from exporter.parse import Memory, parse
from exporter.parse.kernel import parse_kernel
from tests.bench.layouts import NFTABLES, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.model.observation import NamespaceDocuments, Observation
    from exporter.model.snapshot import Snapshot

Documents = list[Any]

SETS = ("", "create s hash:ip family inet\nadd s 10.64.0.2\n", "create s hash:ip family inet\nadd s 10.64.0.3\n")
RULES = (
    "-A DOCKER-USER -d 10.64.0.2/32 -j DROP",
    "-A DOCKER-USER -m set --match-set s src -j DROP",
    "-A DOCKER-USER -m limit --limit 1/sec -j DOCKER",
    "-A DOCKER-USER -j LATER",
    "-A DOCKER-USER -d 10.64.0.2/32 -j DROP extra",
)
VALUES: tuple[Any, ...] = ("", "eth0", "br-n0", "br-n1", "10.64.0.9", "10.64.0.0/25", 7, 24, None, [], {})
"""What fields may be set to, sensible or not."""


@st.composite
def listed(draw: st.DrawFn, documents: Sequence[Mapping[str, Any]]) -> Documents:
    """Return documents of which some are gone, elsewhere, there twice, or say something else."""
    found: Documents = [dict(document) for document in documents]
    for _ in range(draw(st.integers(0, 2))):
        if not found:
            break
        place = draw(st.integers(0, len(found) - 1))
        match draw(st.sampled_from(("remove", "remove", "move", "double", "change"))):
            case "remove":
                del found[place : place + draw(st.sampled_from((1, 1, 5, 100)))]
            case "move":
                found.insert(draw(st.integers(0, len(found) - 1)), found.pop(place))
            case "double":
                found.insert(draw(st.integers(0, len(found))), dict(found[place]))
            case _ if found[place]:
                key = draw(st.sampled_from(sorted(found[place])))
                found[place][key] = draw(st.sampled_from((*VALUES, *(each.get(key) for each in found[:8]))))
            case _:
                pass
    return found


@st.composite
def crowds(draw: st.DrawFn, documents: Sequence[Mapping[str, Any]]) -> Documents:
    """Return a list of containers like that, of which some share the namespace of another one, or of nobody."""
    found: Documents = draw(listed(documents))
    ids = [str(document["Id"]) for document in documents]
    modes = ("host", "none", *(f"container:{each}" for each in ids), *(f"container:{each}" for each in ids))
    for _ in range(draw(st.integers(0, 2)) if found else 0):
        place = draw(st.integers(0, len(found) - 1))
        found[place]["HostConfig"] = {"NetworkMode": draw(st.sampled_from(modes))}
        found[place]["Labels"] = {"tenant": draw(st.sampled_from(("a", "b")))}
    return found


@st.composite
def saved(draw: st.DrawFn, text: str) -> str:
    """Return rules of which some are counted on, new, gone, or call a chain that came or went."""
    lines = text.splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("[")]
    for number in draw(st.lists(st.sampled_from(rules), max_size=4)):
        lines[number] = re.sub(r"^\[\d+", f"[{draw(st.integers(0, 3))}", lines[number])
    users = [number for number, line in enumerate(lines) if "-A DOCKER-USER" in line]
    for rule in draw(st.lists(st.sampled_from(RULES), max_size=2)):
        lines.insert(draw(st.sampled_from(users or rules)), f"[0:0] {rule}")
    if draw(st.booleans()):
        lines.insert(draw(st.sampled_from(rules)), ":LATER - [0:0]")
    if draw(st.integers(0, 2)) == 0:
        del lines[draw(st.sampled_from(rules))]
    return "\n".join((*lines, ""))


@st.composite
def native(draw: st.DrawFn, text: str) -> str:
    """Return a table of nft of which entries are gone, elsewhere or new, with other counters, and a map has changed."""
    entries = draw(listed(json.loads(text)["nftables"]))
    for place in draw(st.lists(st.integers(0, len(entries) - 1), max_size=4)) if entries else ():
        match entries[place]:
            case {"rule": {"expr": [*statements]} as rule}:
                counter = {"counter": {"packets": draw(st.integers(0, 3)), "bytes": 0}}
                counted = [counter if "counter" in each else each for each in statements]
                entries[place] = {"rule": {**rule, "handle": draw(st.integers(1, 9)), "expr": counted}}
            case {"map": {"elem": [_, *rest]} as table}:
                entries[place] = {"map": {**table, "elem": rest}}
            case _:
                pass
    return json.dumps({"nftables": entries})


@st.composite
def namespaces(draw: st.DrawFn, documents: NamespaceDocuments) -> NamespaceDocuments:
    """Return a namespace with some of its documents and rules changed."""
    return replace(
        documents,
        links=draw(listed(documents.links)),
        addresses=draw(listed(documents.addresses)),
        routes=draw(listed(documents.routes)),
        ipsets=draw(st.sampled_from(SETS)),
        iptables={program: draw(saved(text)) for program, text in documents.iptables.items()},
        nftables=[draw(native(text)) for text in documents.nftables],
    )


@st.composite
def looks(draw: st.DrawFn) -> list[Observation]:
    """Return looks at a host of which something changes each time: some of them are of no sense at all."""
    any_of = st.sampled_from(("28.5", "20.10", NFTABLES))
    versions = any_of if draw(st.booleans()) else st.just(draw(any_of))
    found = []
    for _ in range(draw(st.integers(2, 5))):
        version = draw(versions)
        gone = frozenset(draw(st.lists(st.integers(0, 7), max_size=2)))
        seen = Layout(version, containers=8, links=int(version != NFTABLES), without=gone).observation()
        assert seen.kernel is not None
        assert seen.kernel.host is not None
        inside = {
            str(document["Id"]): draw(namespaces(seen.kernel.host))
            for document in draw(st.lists(st.sampled_from(seen.containers), max_size=1))
        }
        kernel = replace(seen.kernel, host=draw(namespaces(seen.kernel.host)), sandboxes=inside)
        containers = draw(crowds(seen.containers))
        networks = draw(listed(seen.networks)) if draw(st.integers(0, 2)) == 0 else seen.networks
        labels = draw(st.sampled_from(((), (), ("tenant",))))
        look = replace(seen, kernel=kernel, containers=containers, networks=networks, labels=labels)
        found += [look] * draw(st.integers(1, 2))
    return found


def meaning(seen: Observation, memory: Memory | None) -> Snapshot | str:
    """Return what a look means, or why nothing."""
    try:
        return parse(seen, memory)
    except ObservationError as error:
        return str(error)


@given(looks())
@settings(deadline=None, max_examples=40)
def test_a_look_means_what_it_would_mean_by_itself(observations: list[Observation]) -> None:
    """After any looks, whatever changed in between, and also where one of them means nothing."""
    memory = Memory()
    for seen in observations:
        assert meaning(seen, memory) == meaning(seen, None)


@st.composite
def insides(draw: st.DrawFn) -> Mapping[str, NamespaceDocuments]:
    """Return namespaces of containers, which say much of what others do: the host's, too, and some of no sense."""
    kernel = Layout("28.5", containers=3, entered=True).observation().kernel
    assert kernel is not None
    assert kernel.host is not None
    choices = [*kernel.sandboxes.values(), kernel.host]
    found = {}
    for number in range(draw(st.integers(2, 4))):
        inside = draw(namespaces(draw(st.sampled_from(choices))))
        rules = draw(listed(inside.rules or ()))
        found[f"c{number}"] = replace(inside, rules=draw(st.sampled_from((rules, inside.rules, None))))
    return found


@given(insides())
@settings(deadline=None, max_examples=80)
def test_a_namespace_means_what_it_would_mean_by_itself(inside: Mapping[str, NamespaceDocuments]) -> None:
    """Whoever was looked at before it."""
    together = parse_kernel(KernelDocuments(None, inside, {}), {name: (name,) for name in inside}, Memory())
    for name, documents in inside.items():
        alone = parse_kernel(KernelDocuments(None, {name: documents}, {}), {name: (name,)}, Memory())
        assert together.sandboxes.get(name) == alone.sandboxes.get(name)
        assert together.missing.get(f"sandboxes/{name}") == alone.missing.get(f"sandboxes/{name}")


@pytest.mark.parametrize("version", ["28.5", NFTABLES])
def test_what_did_not_change_is_the_same_object(version: str) -> None:
    """After a container has stopped, all routes and all other rules, interfaces and sandboxes are those from before."""
    memory = Memory()
    before, after = (
        parse(Layout(version, containers=8, links=0, without=gone).observation(), memory)
        for gone in (frozenset[int](), frozenset({7}))
    )
    (*old, old_routes), (*new, new_routes) = parts(before), parts(after)
    assert [some < all_ for some, all_ in zip(new, old, strict=True)] == [True] * len(old)
    assert new_routes == old_routes


def parts(snapshot: Snapshot) -> Sequence[set[int]]:
    """Return the identities of the sandboxes, and of the host's interfaces, rules and routes."""
    assert snapshot.kernel is not None
    host = snapshot.kernel.host
    chains = [chain for table in host.firewall.tables for chain in table.chains.values()]
    kinds = snapshot.sandboxes.values(), host.interfaces.values(), [r for c in chains for r in c.rules], host.routes
    return [{id(part) for part in kind} for kind in kinds]
