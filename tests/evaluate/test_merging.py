"""Rules inside containers that differ in one set are as few as there are verdicts, and do what they did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.evaluate.enforced.merging import merged
from exporter.model.firewall import Chain, Field, InRanges, NameIs, Opaque, Rule, Terminate, Verdict
from exporter.model.ranges import Membership, Ranges

ACCEPT, DROP = Terminate(Verdict.ACCEPT), Terminate(Verdict.DROP)
NUMBERS = st.integers(0, 40)
SETS = st.lists(st.tuples(NUMBERS, NUMBERS).map(lambda ends: (min(ends), max(ends))), min_size=1, max_size=3)
TCP = InRanges(Field.PROTOCOL, Ranges.of(6))


def _of(ranges: Ranges, verdict: Terminate, field: Field = Field.SOURCE) -> Rule:
    return Rule((TCP, InRanges(field, ranges), verdict))


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Return a chain of rules, most of which differ in one set and in what they do."""
    fields = st.sampled_from((Field.SOURCE, Field.SOURCE, Field.SOURCE, Field.DESTINATION))
    rules = st.builds(_of, SETS.map(Ranges.union), st.sampled_from((ACCEPT, DROP)), fields)
    return Chain("INPUT", tuple(draw(st.lists(rules, max_size=12))))


def _verdict(chain: Chain, source: int, destination: int) -> Terminate | None:
    values = {Field.SOURCE: source, Field.DESTINATION: destination, Field.PROTOCOL: 6}
    for rule in chain.rules:
        *matches, verdict = rule.steps
        if all(isinstance(match, InRanges) and values[match.field] in match.ranges for match in matches):
            assert isinstance(verdict, Terminate)
            return verdict
    return None


@given(chains(), NUMBERS)
def test_merged_rules_do_the_same(chain: Chain, destination: int) -> None:
    """Whichever rule comes first for a packet decides, as before."""
    few = merged(chain)
    assert len(few.rules) <= len(chain.rules)
    for source in range(42):
        assert _verdict(few, source, destination) == _verdict(chain, source, destination)


def test_thousands_of_rules_are_two() -> None:
    """However they alternate."""
    rules = tuple(_of(Ranges.of(2 * number), DROP if number % 2 else ACCEPT) for number in range(5000))
    assert len(merged(Chain("INPUT", rules)).rules) == 2


def test_what_is_not_certain_stays() -> None:
    """Chance is asked again and again, and other interfaces are others."""
    chance = Opaque("statistic")
    rules = [Rule((chance, InRanges(Field.SOURCE, Ranges.of(number)), DROP)) for number in (1, 2)]
    rules += [Rule((NameIs(Field.INPUT_INTERFACE, (name,)), DROP)) for name in ("eth0", "eth1")]
    rules += [Rule((InRanges(Field.SOURCE, Ranges.of(number), negated=True), DROP)) for number in (1, 2)]
    chain = Chain("INPUT", tuple(rules))
    assert merged(chain) is chain


@given(st.lists(SETS.map(Ranges.union), max_size=6))
def test_membership(sets: list[Ranges]) -> None:
    """It is the same for numbers that are in the same sets, and for no others."""
    membership = Membership(sets)
    told = {number: membership.of(number) for number in (*range(45), *range(44, 0, -3))}
    for one, mine in told.items():
        for other, theirs in told.items():
            assert (mine == theirs) == all((one in ranges) == (other in ranges) for ranges in sets)
        assert membership.parts(0, one) == any(ranges.covers(0, one) is None for ranges in sets)
