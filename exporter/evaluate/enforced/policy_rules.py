"""Policy rules: what they ask of a packet, and which are those that a namespace begins with (fib_rules.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.model.addresses import within
from exporter.model.namespace import USUAL_RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.evaluate.enforced.route_table import Question
    from exporter.model.namespace import Namespace, PolicyRule

OF_PORTS = (": sport", ": dport")
"""How the names of what rules ask for end that are for some ports alone."""

USUAL = {family: tuple(rule for rule in USUAL_RULES if rule.family == family) for family in (4, 6)}


def of_family(namespace: Namespace, family: int) -> tuple[PolicyRule, ...]:
    """Return a namespace's policy rules in their order."""
    own = (rule for rule in namespace.rules if rule.family == family)
    return tuple(sorted(own, key=lambda rule: rule.priority))


def as_usual(rules: Sequence[PolicyRule], family: int) -> bool:
    """Return whether rules do what those do that a namespace begins with."""
    steps, usual = ([(rule.action, rule.table) for rule in told] for told in (rules, USUAL[family]))
    return steps == usual and not any(map(_selects, rules))


def place(rules: Sequence[PolicyRule], goto: PolicyRule, following: int) -> int:
    """Return where a rule leads: to a later one, as none leads back (fib_nl_newrule), else to the one that follows it.

    One whose target is not there is passed over (fib_rules_lookup).
    """
    return next((at for at in range(following, len(rules)) if rules[at].priority == goto.goto), following)


def _selects(rule: PolicyRule) -> bool:
    """Return whether a rule asks for anything of the packet."""
    asked: Iterable[object] = (
        rule.inverted,
        rule.source,
        rule.destination,
        rule.input_interface,
        rule.output_interface,
        rule.mark_mask,
        rule.protocol,
        rule.source_ports,
        rule.destination_ports,
        rule.users,
        rule.opaque,
    )
    return any(asked) or rule.suppress_prefix_length is not None or rule.suppress_group is not None


def left_open(rule: PolicyRule, question: Question) -> str:
    """Return what a rule asks for that is not known of a packet which is as it asks in all else."""
    if rule.opaque:
        return rule.opaque
    if rule.source is not None and question.disguised:
        return "from"
    if rule.mark_mask and question.mark is None:
        return "fwmark"
    if rule.source_ports is not None and not _covers(rule.source_ports, question.ports[0]):
        return "sport"
    if rule.destination_ports is not None and not _covers(rule.destination_ports, question.ports[1]):
        return "dport"
    return "uidrange" if rule.users is not None and question.user is None else ""


def _covers(wanted: tuple[int, int], ports: tuple[int, int] | None) -> bool:
    return ports is not None and wanted[0] <= ports[0] and ports[1] <= wanted[1]


def holds(rule: PolicyRule, question: Question) -> bool:
    """Return whether a packet is as a rule asks, as far as that is known of it."""
    return all(_conditions(rule, question))


def _conditions(rule: PolicyRule, question: Question) -> Iterator[bool]:
    source = None if question.disguised else rule.source
    for prefix, address in ((source, question.source), (rule.destination, question.destination)):
        if prefix is not None:
            yield address is not None and within(address, prefix)
    if rule.input_interface:
        # packets of the namespace itself come from its loopback
        yield rule.input_interface == (question.interface or "lo")
    if rule.output_interface:
        yield rule.output_interface == question.output
    if question.mark is not None:
        yield question.mark & rule.mark_mask == rule.mark & rule.mark_mask
    if rule.users is not None and question.user is not None:
        yield rule.users[0] <= question.user <= rule.users[1]
    if rule.protocol is not None:
        yield rule.protocol == question.protocol
    for wanted, ports in zip((rule.source_ports, rule.destination_ports), question.ports, strict=True):
        if wanted is not None:
            yield ports is not None and wanted[0] <= ports[1] and ports[0] <= wanted[1]


def usual_policy(namespace: Namespace) -> bool:
    """Return whether packets are routed by their destination alone: there are no policies of IPsec, either.

    Policy rules of a family without routes do not matter: a kernel without IPv6 has none.
    """
    routes = namespace.routes
    return (
        not namespace.policies
        and not any(route.senders is not None or route.tos for route in routes)
        and all(
            as_usual(of_family(namespace, family), family)
            or all(route.destination.version != family for route in routes)
            for family in USUAL
        )
    )
