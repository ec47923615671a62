"""Whatever iptables-save and ipset print, and whatever they do not: no rule is lost, and no error but the one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ObservationError
from exporter.model.firewall import InRanges, NameIs, Opaque, Terminate, Unforeseeable, Verdict
from exporter.parse.kernel.ipsets import parse_ipsets
from tests.parse.kernel.rules import rule, saved, tables

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-.", min_size=1, max_size=12).filter(
    lambda name: name[0] not in "-!"
)
NUMBER = st.integers(0, 255)
ADDRESSES = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER).map(lambda parts: ".".join(map(str, parts)))
PORTS = st.integers(0, 65535)
SIGN = st.sampled_from(["", "! "])
COMMENTS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=30)


def quoted(text: str) -> str:
    """Return a text as iptables-save prints it (xtables_save_string)."""
    plain = set("_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if set(text) <= plain:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


PARTS = {
    "-s": st.builds("{}-s {}/{}".format, SIGN, ADDRESSES, st.integers(0, 32)),
    "-i": st.builds("{}-i {}".format, SIGN, NAMES),
    "-o": st.builds("{}-o {}+".format, SIGN, NAMES),
    "-p": st.sampled_from(["-p tcp", "! -p udp", "-p 47", "-p all"]),
    "dport": st.builds("-m tcp {}--dport {}".format, SIGN, PORTS),
    "comment": st.builds(lambda text: f"-m comment --comment {quoted(text)}", COMMENTS),
    "limit": st.just("-m limit --limit 5/sec"),
    "state": st.builds("-m conntrack {}--ctstate NEW,INVALID".format, SIGN),
}
RULES = st.lists(st.sampled_from(sorted(PARTS)), unique=True).flatmap(
    lambda keys: st.tuples(*(PARTS[key] for key in keys))
)
TARGETS = {"ACCEPT": Verdict.ACCEPT, "DROP": Verdict.DROP, "RETURN": Verdict.RETURN, "REJECT": Verdict.REJECT}


@given(RULES, st.sampled_from(sorted(TARGETS)))
def test_every_part_of_a_rule_counts_and_the_target_is_last(parts: tuple[str, ...], target: str) -> None:
    """Whatever stands in comments and names: each part means what it means by itself, and the verdict is the rule's."""
    found = rule(" ".join([*parts, f"-j {target}"]))
    assert found.steps[-1] == Terminate(TARGETS[target])
    alone = [step for part in parts for step in rule(part).steps]
    assert set(found.steps[:-1]) == set(alone)
    assert not any(isinstance(step, Unforeseeable) for step in found.steps)


@given(ADDRESSES, st.integers(0, 32), SIGN)
def test_addresses_are_those_of_the_prefix(address: str, length: int, sign: str) -> None:
    """A prefix has its addresses, whether its length or its mask is printed."""
    (step,) = rule(f"{sign}-s {address}/{length}").steps
    mask = ((1 << length) - 1) << (32 - length)
    dotted = ".".join(str(mask >> shift & 255) for shift in (24, 16, 8, 0))
    assert rule(f"{sign}-s {address}/{dotted}").steps == (step,)
    assert isinstance(step, InRanges)
    ((low, high),) = step.ranges.intervals
    assert (high - low + 1, step.negated) == (1 << (32 - length), bool(sign))


@given(st.lists(st.tuples(PORTS, PORTS).map(sorted), min_size=1, max_size=15))
def test_multiport_has_the_ports_of_its_ranges(intervals: list[list[int]]) -> None:
    """Single ports and ranges mix."""
    said = ",".join(str(low) if low == high else f"{low}:{high}" for low, high in intervals)
    found = rule(f"-p tcp -m multiport --dports {said}").steps[-1]
    assert isinstance(found, InRanges)
    for low, high in intervals:
        assert found.ranges.covers(low, high)
    assert len(found.ranges.intervals) <= len(intervals)


GARBAGE = """
    -A -s -d -i -o -p -m -j -g -f ! --dport --match-set --to-destination tcp conntrack --ctstate NEW set DNAT NETMAP TTL
    MARK --set-mark TPROXY rpfilter addrtype --dst-type LOCAL multiport --ports 1,2:3 10.0.0.0/8 ::/0 0x1/0xff physdev
    --physdev-out icmp --icmp-type 8/ owner --uid-owner 5- NFQUEUE --tcp-flags ALL " "x\\ [::]:
""".split()  # noqa: SIM905 - as a list, it would be forty lines
ENDLESS = "9" * 5000
"""More digits than Python reads as a number."""
GARBAGE += [ENDLESS, f"10.0.0.0/{ENDLESS}", f"{ENDLESS}:{ENDLESS}"]
WORDS = st.lists(
    st.one_of(
        st.sampled_from(GARBAGE),
        st.text(max_size=6).filter(lambda text: "\n" not in text),
    ),
    max_size=12,
).map(" ".join)


@given(WORDS, st.sampled_from([4, 6]))
def test_words_in_any_order_are_a_rule(said: str, version: int) -> None:
    """A line that begins as a rule is one, however garbled: what is not understood is among its steps."""
    (found,) = tables(saved([f"[1:2] -A FORWARD {said}"]), version)
    assert len(found.chains["FORWARD"].rules) == 1


@pytest.mark.parametrize("counter", [f"{ENDLESS}:0", f"0:{ENDLESS}", f"{1 << 64}0:0"])
@pytest.mark.parametrize("others", [0, 3])
def test_counters_have_64_bits(counter: str, others: int) -> None:
    """A line with a number that no counter has is no rule, whether or not all others are."""
    lines = ["[1:2] -A FORWARD -j ACCEPT"] * others
    with pytest.raises(ObservationError, match="a counter that is none"):
        tables(saved([*lines, f"[{counter}] -A FORWARD -j ACCEPT"]))
    (found,) = tables(saved([f"[{(1 << 64) - 1}:{(1 << 64) - 1}] -A FORWARD -j ACCEPT"]))
    assert found.counter("FORWARD", 0) == (1 << 64) - 1


@given(st.one_of(st.text(), st.lists(WORDS).map(lambda lines: "*filter\n:FORWARD ACCEPT [0:0]\n" + "\n".join(lines))))
def test_garbage_raises_the_one_error(text: str) -> None:
    """Text that is no dump is refused with the documented error, and with no other."""
    with suppress(ObservationError):
        tables(text)


@given(st.integers(0, 500))
def test_a_dump_that_breaks_off_is_refused(length: int) -> None:
    """Wherever a dump is cut within its table, nothing of it is believed."""
    text = saved([f"[0:0] -A FORWARD -s 10.0.0.{host}/32 -j ACCEPT" for host in range(9)])
    cut = text[: min(length, len(text) - len("COMMIT\n"))]
    if cut:
        with pytest.raises(ObservationError):
            tables(cut)


ENTRIES = st.builds("{}/{}{}".format, ADDRESSES, st.integers(1, 32), st.sampled_from(["", " nomatch"]))


@given(st.lists(ENTRIES, max_size=8), ADDRESSES)
def test_a_set_of_networks_asks_the_smallest(entries: list[str], address: str) -> None:
    """An address is in a set exactly when the longest prefix that holds it is no exception."""
    unique = {entry.split()[0]: entry for entry in entries}
    text = "".join(f"add s {entry}\n" for entry in unique.values())
    found = parse_ipsets("create s hash:net family inet\n" + text).match("s", ("src",), 4)
    number = int.from_bytes(bytes(map(int, address.split("."))), "big")
    holding: dict[int, bool] = {}
    for entry in unique.values():
        prefix, length = entry.split()[0].split("/")
        shift = 32 - int(length)
        if int.from_bytes(bytes(map(int, prefix.split("."))), "big") >> shift == number >> shift:
            # the same network can be written with different rests: as in the kernel, an exception goes first
            holding[int(length)] = holding.get(int(length), False) or entry.endswith("nomatch")
    inside = bool(holding) and not holding[max(holding)]
    held = isinstance(found, InRanges) and number in found.ranges
    assert held is inside


@given(st.one_of(st.text(), st.lists(WORDS).map(lambda lines: "\n".join(f"add s {line}" for line in lines))))
def test_garbage_is_no_set(text: str) -> None:
    """Text that is no dump of sets is refused with the documented error, and elements that are none are a doubt."""
    with suppress(ObservationError):
        parse_ipsets("create s hash:ip,port family inet\n" + text).match("s", ("src", "dst"), 4)


def test_many_rules_are_read() -> None:
    """All of a hundred thousand rules are read, the last like the first."""
    lines = [
        f"[0:0] -A FORWARD -d 10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32 ! -i br-{number % 200} "
        f"-o br-{number % 200} -p tcp -m tcp --dport {number % 60000 + 1} -j ACCEPT"
        for number in range(100_000)
    ]
    (found,) = tables(saved(lines))
    assert len(found.chains["FORWARD"].rules) == 100_000
    last = found.chains["FORWARD"].rules[-1]
    assert [type(step) for step in last.steps] == [InRanges, NameIs, NameIs, InRanges, InRanges, Terminate]
    assert not any(isinstance(step, Opaque) for step in last.steps)
