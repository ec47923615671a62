"""The policy file: rules about who may reach whom, nothing unknown, nothing twice, every mistake with its line.

rules:
  - name: tenants-apart
    why: customers must not see each other
    deny: {from: any, to: {tenant: other}}
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml

from exporter import yamlfile
from exporter.errors import ConfigError
from exporter.model.policy import ANY, Effect, Policy, Relation, Rule, Selector
from exporter.model.ports import ALL_PORTS, NO_PORTS, PortSet
from exporter.model.reach import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_BLANKS = re.compile(r" *([,-]) *")
_SELECTOR: Final = ("name", "network", "tenant", "label", "not")
_EVERYONE: Final = "any"
_TCP_AND_UDP: Final = frozenset({Protocol.TCP, Protocol.UDP})
_RELATIONS: Final = {relation.value: relation for relation in Relation}
_PROTOCOLS: Final = {protocol.value: protocol for protocol in Protocol}


def read(path: Path) -> Policy:
    """Return the policy in a file. Raises ConfigError with one line per mistake, all of them at once."""
    errors: list[str] = []
    root = yamlfile.read(path, "policy file")
    if root is None:
        raise ConfigError(f"{path}:1: the file holds no rules")
    rules = _Rules(yamlfile.Reader(path, errors)).all(root)
    if errors:
        raise ConfigError("\n".join(errors))
    return Policy(tuple(rules))


class _End(NamedTuple):
    """What stands behind `from` or `to`."""

    selector: Selector
    relation: Relation | None


class _Rules:
    """Reads rules. What is wrong is told and read as if it were not there: a policy with mistakes is never used."""

    def __init__(self, reader: yamlfile.Reader) -> None:
        self._reader = reader
        self._names: set[str] = set()

    def all(self, root: yaml.Node) -> list[Rule]:
        """Return the rules of the file in their order."""
        listed = self._fields(root, "the file", ("rules",), ("rules",)).get("rules")
        if listed is None:
            return []
        if not isinstance(listed, yaml.SequenceNode):
            self._reader.complain(listed, f"rules must be a list, not {yamlfile.kind_of(listed)}")
            return []
        rules = [self._rule(item) for item in listed.value]
        if not rules:
            self._reader.complain(listed, "rules must not be empty")
        for rule, item in zip(reversed(rules), reversed(listed.value), strict=True):
            if rule.effect is Effect.DENY:
                break
            self._reader.complain(item, f"{rule.name or 'this rule'} allows, and no rule below it denies: move it up")
        return rules

    def _rule(self, node: yaml.Node) -> Rule:
        fields = self._fields(node, "a rule", ("name", "why", *Effect), ("name", "why"))
        name, why = self._name(fields.get("name")), self._why(fields.get("why"))
        effects = [effect for effect in Effect if effect in fields]
        if len(effects) != 1 and isinstance(node, yaml.MappingNode):
            self._reader.complain(node, f"a rule must have {'one of ' if effects else ''}deny or allow")
        effect = effects[0] if effects else Effect.DENY
        known = ("from", "to", "protocol", "ports")
        paths = self._fields(fields[effect], effect, known, ("from", "to")) if effects else {}
        source, destination = (self._end(paths, where) for where in ("from", "to"))
        protocols, ports = self._protocols(paths.get("protocol")), self._ports(paths.get("ports"))
        if Protocol.ICMP in protocols and "ports" in paths:
            self._reader.complain(paths["ports"], "ports mean nothing to icmp: write a rule of its own for it")
        return Rule(name, why, effect, source.selector, destination.selector, destination.relation, protocols, ports)

    def _name(self, node: yaml.Node | None) -> str:
        name = self._text(node, "name")
        if node is None or not name:
            return ""
        if not _NAME.fullmatch(name):
            self._reader.complain(node, f"not a name: {name!r} (letters, digits and _ . - only, 63 at most)")
        elif name in self._names:
            self._reader.complain(node, f"rule {name} is there twice")
        self._names.add(name)
        return name

    def _why(self, node: yaml.Node | None) -> str:
        return " ".join(self._text(node, "why").split())

    def _text(self, node: yaml.Node | None, what: str) -> str:
        texts = self._reader.texts(node, what, "text") if node is not None else ()
        if node is not None and texts and not texts[0].strip():
            self._reader.complain(node, f"{what} must not be empty")
        return texts[0] if texts else ""

    def _end(self, paths: Mapping[str, yaml.Node], where: str) -> _End:
        node = paths.get(where)
        if node is None or (isinstance(node, yaml.ScalarNode) and node.value == _EVERYONE):
            return _End(ANY, None)
        if not isinstance(node, yaml.MappingNode):
            kind = yamlfile.kind_of(node)
            self._reader.complain(node, f"{where} must be {_EVERYONE} or a mapping of {_listed(_SELECTOR)}, not {kind}")
            return _End(ANY, None)
        fields = self._fields(node, where, _SELECTOR)
        tenant = fields.get("tenant")
        relation = _RELATIONS.get(tenant.value) if isinstance(tenant, yaml.ScalarNode) and where == "to" else None
        if relation is not None:
            del fields["tenant"]
        return _End(self._selector(node, where, fields), relation)

    def _selector(self, node: yaml.MappingNode, where: str, fields: Mapping[str, yaml.Node]) -> Selector:
        if not node.value:
            self._reader.complain(node, f"{where} must say which containers are meant")
        inner = fields.get("not")
        return Selector(
            names=self._patterns(fields.get("name"), "name"),
            networks=self._patterns(fields.get("network"), "network"),
            tenants=self._tenants(fields.get("tenant")),
            labels=self._labels(fields.get("label")),
            excluded=self._excluded(inner) if inner is not None else (),
        )

    def _excluded(self, node: yaml.Node) -> tuple[Selector, ...]:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not items:
            self._reader.complain(node, "not must not be empty")
        read = ((item, self._fields(item, "not", _SELECTOR[:-1])) for item in items)
        return tuple(self._selector(item, "not", fields) for item, fields in read if isinstance(item, yaml.MappingNode))

    def _tenants(self, node: yaml.Node | None) -> tuple[str, ...]:
        tenants = self._patterns(node, "tenant")
        taken = next((tenant for tenant in tenants if tenant in _RELATIONS), None)
        if node is not None and taken is not None:
            means = f"{taken} compares with the source and stands alone behind to"
            self._reader.complain(node, f"tenant: {means} (a tenant of this name: '[{taken[0]}]{taken[1:]}')")
        return tenants

    def _patterns(self, node: yaml.Node | None, what: str, *, empty: bool = False) -> tuple[str, ...]:
        patterns = self._reader.texts(node, what, "texts") if node is not None else ()
        if node is not None and not empty and "" in patterns:
            self._reader.complain(node, f"{what} must not be empty")
        for pattern in patterns:
            if node is not None and "[^" in pattern:
                # some shells take it as they take [!, others, and fnmatch, for one of the characters that fit
                self._reader.complain(node, f"{what} must not hold [^: write [!…] for other characters ({pattern})")
        return patterns

    def _labels(self, node: yaml.Node | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
        if node is None:
            return ()
        values: dict[str, tuple[str, ...]] = {}
        for key, name, value in self._reader.members(node, "label"):
            if name in values:
                self._reader.complain(key, f"label {name} is there twice")
            values[name] = self._patterns(value, f"label {name}", empty=True)
        if isinstance(node, yaml.MappingNode) and not node.value:
            self._reader.complain(node, "label must name one")
        return tuple(values.items())

    def _protocols(self, node: yaml.Node | None) -> frozenset[Protocol]:
        if node is None:
            return _TCP_AND_UDP
        protocols = self._reader.texts(node, "protocol", "texts")
        for wrong in (protocol for protocol in protocols if protocol not in _PROTOCOLS):
            self._reader.complain(node, f"protocol must be {_listed(tuple(_PROTOCOLS))}, not {wrong!r}")
        return frozenset(_PROTOCOLS[protocol] for protocol in protocols if protocol in _PROTOCOLS)

    def _ports(self, node: yaml.Node | None) -> PortSet:
        if node is None:
            return ALL_PORTS
        ports = NO_PORTS
        for text in self._reader.texts(node, "ports", "numbers"):
            try:
                found = PortSet.parse(_BLANKS.sub(r"\1", text.strip()))
            except ValueError as error:
                self._reader.complain(node, f"{error} (write 80, 8000-8100 or 80,443)")
                continue
            if not found:
                self._reader.complain(node, "ports must not be empty")
            ports |= found
        return ports

    def _fields(
        self, node: yaml.Node, what: str, known: Sequence[str], required: Sequence[str] = ()
    ) -> dict[str, yaml.Node]:
        """Return the values of a mapping by key; `what` names the mapping."""
        fields: dict[str, yaml.Node] = {}
        for key, name, value in self._reader.members(node, what):
            if name not in known:
                self._reader.complain(key, f"unknown key {name} in {what}{yamlfile.hint(name, known)}")
            elif name in fields:
                self._reader.complain(key, f"{name} is there twice in {what}")
            else:
                fields[name] = value
        if isinstance(node, yaml.MappingNode):
            for name in required:
                if name not in fields:
                    self._reader.complain(node, f"{name} is missing in {what}")
        return fields


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
