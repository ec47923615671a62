"""Which connection a namespace takes packets to be of that come through it more than once.

What is expected here is what packets did between containers with Linux 6.18 (tests/conformance/test_rules.py).
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from exporter.evaluate.enforced.expiry import expiry
from exporter.evaluate.enforced.flight import UDP, Conversation, Ends, Flight, Passage, Stage
from exporter.evaluate.enforced.hooks import Hooks
from exporter.evaluate.enforced.packets import ANSWERED_BEFORE, Atom, Column, Some, only
from exporter.evaluate.enforced.passing import Passing
from exporter.evaluate.enforced.rewriting import SEVERAL_PORTS
from exporter.evaluate.enforced.stack import Stack
from exporter.evaluate.enforced.walk import MARK
from exporter.model.firewall import Backend, Firewall, Hook, TableFamily
from exporter.model.namespace import Namespace
from exporter.parse.kernel.ipsets import IpSets
from exporter.parse.kernel.iptables import parse_iptables
from tests.hosts import host
from tests.kernels import kernel
from tests.looks import CLOSED, OPEN

RULES = """*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -j SNAT --to-source 10.0.0.9
COMMIT
*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -m connmark --mark 5 -j DROP
-A FORWARD -m conntrack --ctstatus CONFIRMED -j DROP
COMMIT
"""


def number(text: str) -> int:
    """Return an address as a number."""
    return int(ip_address(text))


NEAR, NEXT, FAR, OTHER = map(number, ("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.0.9"))
PICKED, PORT = Some(32768, 60999), only(80)
SENT = Ends(NEAR, PICKED, FAR, PORT)

SECONDS = (
    *("tcp_timeout_syn_sent", "tcp_timeout_syn_recv", "tcp_timeout_established", "tcp_timeout_max_retrans"),
    *("tcp_timeout_unacknowledged", "tcp_loose", "udp_timeout", "icmp_timeout", "icmpv6_timeout"),
)


@pytest.fixture
def stack() -> Stack:
    """Return a namespace that gives all packets another source."""
    tables = parse_iptables(RULES, TableFamily.IP, Backend.IPTABLES_NFT, IpSets())
    return Stack("host", Namespace(firewall=Firewall(tables)), 4)


def entered(stack: Stack, ends: Ends, *before: Passage) -> list[Passing]:
    """Return first packets that came in, after they came through the namespace before."""
    flight = Flight(UDP, ends, passages=before)
    return list(HOOKS.through(Hook.PREROUTING, Passing(stack, 0b11, flight, ends)))


HOOKS = Hooks(Conversation(Stage.FIRST))


def sources(passed: list[Passing]) -> dict[object, int]:
    """Return from where packets leave, by cell."""
    found: dict[object, int] = {}
    for each in passed:
        for out in HOOKS.through(Hook.POSTROUTING, each):
            source = out.flight.ends.source
            found[source] = found.get(source, 0) | out.cells
    return found


@pytest.mark.parametrize(
    ("passages", "expected"),
    [
        ([], {OTHER: 0b11}),
        ([(SENT, SENT, 0b11)], {NEAR: 0b11}),
        ([(SENT, SENT, 0b01)], {NEAR: 0b01, OTHER: 0b10}),
        ([(replace(SENT, source=NEXT), SENT, 0b11)], {OTHER: 0b11}),
        ([(replace(SENT, source_port=only(7)), SENT, 0b11)], {OTHER: 0b11}),
        ([(replace(SENT, source=Column({NEAR: 0b10, NEXT: 0b01})), SENT, 0b11)], {NEAR: 0b10, OTHER: 0b01}),
    ],
)
def test_what_passed_unchanged_is_not_translated_any_more(
    stack: Stack, passages: list[tuple[Ends, Ends, int]], expected: dict[object, int]
) -> None:
    """It is of the connection that it began; what came in by other addresses or ports, or untracked, begins another."""
    before = [Passage(stack, tracked, came, left) for came, left, tracked in passages]
    assert sources(entered(stack, SENT, *before)) == expected


def test_a_translation_of_the_first_time_is_that_of_the_second(stack: Stack) -> None:
    """Where packets come as they came at first, they leave as they left."""
    before = Passage(stack, 0b11, SENT, replace(SENT, source=NEXT))
    assert sources(entered(stack, SENT, before)) == {NEXT: 0b11}


def test_other_namespaces_do_not_matter(stack: Stack) -> None:
    """Each has a conntrack of its own."""
    assert sources(entered(stack, SENT, Passage(Stack("else", Namespace(), 4), 0b11, SENT, SENT))) == {OTHER: 0b11}


@pytest.mark.parametrize(("passages", "left"), [(0, 0b11), (1, 0)])
def test_a_connection_is_confirmed_once_a_packet_of_it_has_left(stack: Stack, passages: int, left: int) -> None:
    """What began it is still new, and not the first."""
    (passing,) = entered(stack, SENT, *[Passage(stack, 0b11, SENT, SENT)] * passages)
    forwarded = HOOKS.through(Hook.FORWARD, passing)
    assert sum(each.cells for each in forwarded) == left


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "loose"),
        (dict.fromkeys(SECONDS, "1"), "loose"),
        ({"tcp_timeout_syn_sent": "0"}, "asked answered loose"),
        ({"tcp_timeout_syn_sent": "0", "tcp_loose": "0"}, "asked answered confirmed"),
        ({"tcp_timeout_syn_sent": "0", "tcp_timeout_unacknowledged": "0"}, "asked answered confirmed loose"),
        ({"tcp_timeout_syn_recv": "0"}, "answered loose"),
        ({"tcp_timeout_max_retrans": "0"}, "asked answered confirmed loose"),
        ({"tcp_timeout_unacknowledged": "0"}, "loose"),
        ({"tcp_timeout_established": "0"}, "confirmed loose"),
        ({"tcp_timeout_syn_sent": "-1", "tcp_timeout_max_retrans": "300"}, "loose"),
        ({"tcp_timeout_syn_sent": "-1", "tcp_timeout_max_retrans": "-1"}, "asked answered loose"),
    ],
)
def test_what_is_forgotten_at_once(settings: dict[str, str], expected: str) -> None:
    """A second is long enough, and what is sent again may have less than that (tests/conformance/test_timeouts.py)."""
    told = expiry(Namespace(settings={f"netfilter/nf_conntrack_{name}": value for name, value in settings.items()}))
    assert {name for name in ("asked", "answered", "confirmed", "loose") if getattr(told, name)} == {*expected.split()}
    assert told.protocols == ({6} if "asked" in expected else set())
    assert told.unusual == (expected != "loose")


@pytest.mark.parametrize(("marks", "kept"), [((5,), 5), ((5, 7), 7)])
def test_the_mark_is_the_one_that_was_set_last(stack: Stack, marks: tuple[int, ...], kept: int) -> None:
    """It stays with the connection."""
    (passing,) = entered(stack, SENT, *(Passage(stack, 0b11, SENT, SENT, mark) for mark in marks))
    assert passing.ct_mark == kept


SPREAD = """*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp -j DNAT --to-destination 10.0.1.1:{}
COMMIT
*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -p udp -m udp --dport 90:99 -j DROP
COMMIT
"""


@pytest.mark.parametrize(
    ("ports", "port", "left", "doubts"),
    [
        ("8000-8010", Some(8000, 8010, SEVERAL_PORTS), 0b11, {}),
        ("90-95", Some(90, 95, SEVERAL_PORTS), 0, {}),
        ("95-105", Some(95, 105, SEVERAL_PORTS), 0b11, {SEVERAL_PORTS: 0b11}),
        ("75-85", PORT, 0b11, {}),
        ("8000", only(8000), 0b11, {}),
    ],
)
def test_which_of_several_ports_it_is_matters_to_rules_that_ask(
    ports: str, port: Some | Atom, left: int, doubts: dict[str, int]
) -> None:
    """A port that is among them stays."""
    tables = parse_iptables(SPREAD.format(ports), TableFamily.IP, Backend.IPTABLES_NFT, IpSets())
    (passing,) = entered(Stack("host", Namespace(firewall=Firewall(tables)), 4), SENT)
    assert (passing.flight.ends.destination_port, passing.flight.doubts) == (port, {})
    forwarded = [each for each in HOOKS.through(Hook.FORWARD, passing) if each.cells]
    assert (sum(each.cells for each in forwarded), [each.flight.doubts for each in forwarded]) == (
        left,
        [doubts] if left else [],
    )


MARKS = """*mangle
:FORWARD ACCEPT [0:0]
-A FORWARD -m limit --limit 1/sec -j CONNMARK --set-xmark 0x5/0xffffffff
COMMIT
"""


@pytest.mark.parametrize(
    ("rules", "contested", "doubts"),
    [
        (RULES, 0, {}),
        (RULES, 0b01, {ANSWERED_BEFORE: 0b01}),
        (RULES + MARKS, 0b01, {MARK: 0b11}),
        (RULES + MARKS, 0b11, {ANSWERED_BEFORE: 0b11}),
    ],
)
def test_a_mark_may_be_that_of_a_conversation_with_another(rules: str, contested: int, doubts: dict[str, int]) -> None:
    """Where another one may have answered before, that is why the mark of a connection is not known."""
    without_status = rules.replace("-A FORWARD -m conntrack --ctstatus CONFIRMED -j DROP\n", "")
    tables = parse_iptables(without_status, TableFamily.IP, Backend.IPTABLES_NFT, IpSets())
    stack = Stack("host", Namespace(firewall=Firewall(tables)), 4)
    flight = Flight(UDP, SENT, contested=contested)
    (passed,) = HOOKS.through(Hook.FORWARD, Passing(stack, 0b11, flight, SENT))
    assert passed.flight.doubts == doubts


def test_answers_are_told_apart_by_what_they_answer(stack: Stack) -> None:
    """One that was rewritten the other way round already is of no connection when it comes again."""
    began = Passage(stack, 0b11, SENT, replace(SENT, destination=NEXT))
    hooks = Hooks(Conversation(Stage.ANSWER, {"host": [began]}))
    answer = began.after.reversed()
    (first,) = hooks.through(Hook.POSTROUTING, Passing(stack, 0b11, Flight(UDP, answer), answer))
    assert first.flight.ends.source == FAR
    ends = first.flight.ends
    again = Flight(UDP, replace(ends, source=OTHER), passages=(first.passage(),))
    (second,) = hooks.through(Hook.POSTROUTING, Passing(stack, 0b11, again, again.ends))
    assert second.flight.ends.source == OTHER


@pytest.mark.parametrize(
    "asks", ["! --ctstatus CONFIRMED", "! --ctorigdst 10.9.9.9", "--ctdir ORIGINAL", "! --ctproto 47"]
)
def test_what_is_not_followed_has_no_connection(asks: str) -> None:
    """What is asked of it holds for no packet that conntrack does not follow, negated or not; for others it does."""
    drops = f"-I DOCKER-USER -p udp -m conntrack {asks} -j DROP"
    for notrack, verdict in ((("-A PREROUTING -s 172.17.0.2 -j CT --notrack",), OPEN), ((), CLOSED)):
        of = kernel(host("28.5").container("a").container("b")).engine_rules()
        seen = of.rules(drops).rules(*notrack, table="raw").look()
        assert seen.direct("a", "b", "bridge", "80/udp") == verdict
