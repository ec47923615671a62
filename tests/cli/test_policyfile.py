"""The policy file: what it may say, and what is said about mistakes in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import policyfile
from exporter.errors import ConfigError
from exporter.model.policy import ANY, Effect, Policy, Relation, Rule, Selector
from exporter.model.ports import ALL_PORTS, PortSet
from exporter.model.reach import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

DENY_ALL = "deny: {from: any, to: any}"


def rule(text: str) -> str:
    """Return a policy of one rule; `text` is what it denies, from line 5 on."""
    return f"rules:\n  - name: r\n    why: w\n    deny:\n      {text}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the policy file is."""
    return tmp_path / "policy.yaml"


def denied(path: Path, text: str) -> Rule:
    """Return the one rule of a policy."""
    path.write_text(rule(text))
    (only,) = policyfile.read(path).rules
    return only


def mistakes(path: Path) -> list[str]:
    """Return the lines of the error that a policy file causes, without its folder."""
    with pytest.raises(ConfigError) as caught:
        policyfile.read(path)
    return [line.replace(f"{path.parent}/", "") for line in str(caught.value).splitlines()]


def test_a_rule_says_everything_that_it_can(path: Path) -> None:
    """Names, networks, tenants, labels, exceptions, protocols and ports of both ends are kept as they are written."""
    path.write_text(
        """
rules:
  - name: shop.web_1-x
    why: |
      it is
      public
    allow:
      from: {name: [a, "b*"], network: n, tenant: t, label: {role: db, env: [x, ""]}, not: {name: c}}
      to: {tenant: same, not: [{network: m}, {label: {role: web}}]}
      protocol: [tcp, icmp]
  - name: ports
    why: w
    deny: {from: any, to: {tenant: other, name: z}, protocol: udp, ports: [53, "80, 443 ", 8000 - 8100]}
"""
    )
    assert policyfile.read(path) == Policy(
        (
            Rule(
                "shop.web_1-x",
                "it is public",
                Effect.ALLOW,
                Selector(("a", "b*"), ("n",), ("t",), (("role", ("db",)), ("env", ("x", ""))), (Selector(("c",)),)),
                Selector(excluded=(Selector(networks=("m",)), Selector(labels=(("role", ("web",)),)))),
                Relation.SAME,
                frozenset({Protocol.TCP, Protocol.ICMP}),
            ),
            Rule(
                "ports",
                "w",
                Effect.DENY,
                ANY,
                Selector(("z",)),
                Relation.OTHER,
                frozenset({Protocol.UDP}),
                PortSet.parse("53,80,443,8000-8100"),
            ),
        )
    )


def test_without_protocol_and_ports_a_rule_is_about_all_of_tcp_and_udp(path: Path) -> None:
    """The defaults are what makes a pair reachable."""
    only = denied(path, "{from: any, to: any}")
    assert only.protocols == {Protocol.TCP, Protocol.UDP}
    assert only.ports == ALL_PORTS


def test_a_selector_may_be_written_once_and_used_again(path: Path) -> None:
    """YAML's anchors work."""
    only = denied(path, "{from: &it {name: a}, to: {not: *it}}")
    assert only.destination == Selector(excluded=(only.source,))


def test_labels_and_tenants_that_a_rule_asks_for_are_known(path: Path) -> None:
    """So that no other label is ever kept."""
    only = denied(path, "{from: {label: {a: x}, not: {label: {b: x}}}, to: {not: {tenant: t}}}")
    assert only.labels == {"a", "b"}
    assert only.asks_for_tenants
    assert not denied(path, "{from: any, to: {name: x}}").asks_for_tenants
    assert denied(path, "{from: any, to: {tenant: same}}").asks_for_tenants


WHOLE_FILES = [
    ("", ["policy.yaml:1: the file holds no rules"]),
    ("# nothing\n", ["policy.yaml:1: the file holds no rules"]),
    ("- a\n", ["policy.yaml:1: the file must be a mapping of keys, not a list"]),
    ("rule: []\n", ["policy.yaml:1: unknown key rule in the file (did you mean rules?)",
                    "policy.yaml:1: rules is missing in the file"]),
    ("\nrules:\n", ["policy.yaml:2: rules must be a list, not nothing"]),
    ("rules: {name: x}\n", ["policy.yaml:1: rules must be a list, not a mapping"]),
    ("rules: []\n", ["policy.yaml:1: rules must not be empty"]),
    ("rules: []\nrules: []\n", ["policy.yaml:2: rules is there twice in the file",
                                "policy.yaml:1: rules must not be empty"]),
    ("rules:\n  - text\n", ["policy.yaml:2: a rule must be a mapping of keys, not a text (text)"]),
    ("rules: [\n", ["policy.yaml:2: expected the node content, but found '<stream end>'"]),
    ("\na: \x07", ["policy.yaml:2: not YAML: unacceptable character #x0007: special characters are not allowed"]),
    ("rules: []\n---\nrules: []\n",
     ["policy.yaml:2: expected a single document in the stream, but found another document"]),
    ("\nrules: !mine []\n", ["policy.yaml:2: the tag !mine means nothing here"]),
    ("\nrules:\n- !!set {name: x}\n", ["policy.yaml:3: the tag !!set means nothing here"]),
    ("rules: [!!binary eA==]\n", ["policy.yaml:1: the tag !!binary means nothing here"]),
    ("[" * 5000, ["policy.yaml is nested too deeply"]),
    ("? [a]\n: b\n", ["policy.yaml:1: a key of the file must be a text, not a list",
                      "policy.yaml:1: rules is missing in the file"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), WHOLE_FILES)
def test_a_file_that_is_no_policy_is_refused(path: Path, text: str, messages: list[str]) -> None:
    """Each mistake is named with file, line and reason."""
    path.write_text(text)
    assert mistakes(path) == messages


RULES = [
    (f"why: w\n    {DENY_ALL}", [2, "name is missing in a rule"]),
    (f"name: x\n    {DENY_ALL}", [2, "why is missing in a rule"]),
    (f"name: a b\n    why: w\n    {DENY_ALL}",
     [2, "not a name: 'a b' (letters, digits and _ . - only, 63 at most)"]),
    (f"name: 5\n    why: w\n    {DENY_ALL}", [2, "name must be a text, not a whole number (5)"]),
    (f"name: x\n    why: ' '\n    {DENY_ALL}", [3, "why must not be empty"]),
    (f"name: x\n    why:\n    {DENY_ALL}", [3, "why must be a text, not nothing"]),
    ("name: x\n    why: w", [2, "a rule must have deny or allow"]),
    (f"name: x\n    why: w\n    {DENY_ALL}\n    allow: {{from: any, to: any}}",
     [2, "a rule must have one of deny or allow"]),
    (f"name: x\n    why: w\n    because: w\n    {DENY_ALL}", [4, "unknown key because in a rule"]),
    (f"name: x\n    why: w\n    {DENY_ALL}\n    {DENY_ALL}", [5, "deny is there twice in a rule"]),
    ("name: x\n    why: w\n    allow: {from: any, to: any}", [2, "x allows, and no rule below it denies: move it up"]),
    (f"name: x\n    why: w\n    {DENY_ALL}\n  - name: x\n    why: w\n    {DENY_ALL}", [5, "rule x is there twice"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "complaint"), RULES, ids=range(len(RULES)))
def test_a_wrong_rule_is_named_with_its_line(path: Path, text: str, complaint: list[object]) -> None:
    """A rule has a name, a reason and one effect, and is of use where it stands."""
    path.write_text(f"rules:\n  - {text}\n")
    line, problem = complaint
    assert mistakes(path) == [f"policy.yaml:{line}: {problem}"]


ENDS = [
    ("{from: any}", "to is missing in deny"),
    ("{to: any}", "from is missing in deny"),
    ("[any]", "deny must be a mapping of keys, not a list"),
    ("{from: any, to: any, port: 80}", "unknown key port in deny (did you mean ports?)"),
    ("{from: {}, to: any}", "from must say which containers are meant"),
    ("{from: any, to: all}", "to must be any or a mapping of name, network, tenant, label or not, not a text (all)"),
    ("{from: any, to: [a]}", "to must be any or a mapping of name, network, tenant, label or not, not a list"),
    ("{from: {nam: x}, to: any}", "unknown key nam in from (did you mean name?)"),
    ("{from: {name: ''}, to: any}", "name must not be empty"),
    ("{from: {name: []}, to: any}", "name must not be empty"),
    ("{from: {name: 5}, to: any}", "name must be a text or a list of texts, not a whole number (5)"),
    ("{from: {name: x, name: y}, to: any}", "name is there twice in from"),
    ("{from: {label: role}, to: any}", "label must be a mapping of keys, not a text (role)"),
    ("{from: {label: {}}, to: any}", "label must name one"),
    ("{from: {label: {a: true}}, to: any}", "label a must be a text or a list of texts, not true or false (true)"),
    ("{from: {label: {a: x, a: y}}, to: any}", "label a is there twice"),
    ("{from: {not: {not: {name: x}}}, to: any}", "unknown key not in not"),
    ("{from: {not: any}, to: any}", "not must be a mapping of keys, not a text (any)"),
    ("{from: {not: []}, to: any}", "not must not be empty"),
    ("{from: {not: {}}, to: any}", "not must say which containers are meant"),
    (
        "{from: {tenant: other}, to: any}",
        "tenant: other compares with the source and stands alone behind to (a tenant of this name: '[o]ther')",
    ),
    (
        "{from: any, to: {tenant: [a, same]}}",
        "tenant: same compares with the source and stands alone behind to (a tenant of this name: '[s]ame')",
    ),
    (
        "{from: any, to: {not: {tenant: same}}}",
        "tenant: same compares with the source and stands alone behind to (a tenant of this name: '[s]ame')",
    ),
    ("{from: any, to: any, protocol: tpc}", "protocol must be tcp, udp or icmp, not 'tpc'"),
    ("{from: any, to: any, protocol: []}", "protocol must not be empty"),
    ("{from: any, to: any, ports: 0}", "not a port: 0 (write 80, 8000-8100 or 80,443)"),
    ("{from: any, to: any, ports: 65536}", "not a port: 65536 (write 80, 8000-8100 or 80,443)"),
    ("{from: any, to: any, ports: 9-8}", "not an interval of ports: 9-8 (write 80, 8000-8100 or 80,443)"),
    ("{from: any, to: any, ports: http}", "not a set of ports: 'http' (write 80, 8000-8100 or 80,443)"),
    ("{from: any, to: any, ports: 80 81}", "not a set of ports: '80 81' (write 80, 8000-8100 or 80,443)"),
    ("{from: any, to: {name: '[^a]*'}}", "name must not hold [^: write [!…] for other characters ([^a]*)"),
    ("{from: any, to: {label: {a: '[^b]'}}}", "label a must not hold [^: write [!…] for other characters ([^b])"),
    ("{from: any, to: any, ports: 0x50}", "not a set of ports: '0x50' (write 80, 8000-8100 or 80,443)"),
    ("{from: any, to: any, ports: ''}", "ports must not be empty"),
    ("{from: any, to: any, ports: 1.5}", "ports must be a text or a list of texts, not a number (1.5)"),
    ("{from: any, to: any, ports: 80, protocol: icmp}", "ports mean nothing to icmp: write a rule of its own for it"),
]


@pytest.mark.parametrize(("text", "problem"), ENDS, ids=range(len(ENDS)))
def test_a_wrong_end_is_named_with_its_line(path: Path, text: str, problem: str) -> None:
    """What a rule is about is checked word by word."""
    path.write_text(rule(text))
    assert mistakes(path) == [f"policy.yaml:5: {problem}"]


def test_all_mistakes_are_told_at_once_in_their_order(path: Path) -> None:
    """Nobody has to try again to learn of the next one."""
    path.write_text(
        "rules:\n- name: a b\n  why: w\n  deny: {from: any, to: any, ports: x}\n- why: w\n  deny: {from: any}\n"
    )
    assert [line.split(":")[1] for line in mistakes(path)] == ["2", "4", "5", "6"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a folder, a name that is none, one that is too long, a device and a pipe are told apart."""
    large, fifo = tmp_path / "large", tmp_path / "fifo"
    large.write_bytes(b" " * ((1 << 20) + 1))
    os.mkfifo(fifo)
    expected = {
        tmp_path / "none": f"cannot read the policy file {tmp_path / 'none'}: No such file or directory",
        tmp_path: f"cannot read the policy file {tmp_path}: Is a directory",
        Path("a\0b"): "cannot read the policy file a\0b: embedded null byte",
        large: f"{large} is larger than 1 MiB: not a policy file",
        Path("/dev/zero"): "cannot read the policy file /dev/zero: it is not a regular file",
        fifo: f"cannot read the policy file {fifo}: it is not a regular file",
    }
    for path, message in expected.items():
        with pytest.raises(ConfigError) as caught:
            policyfile.read(path)
        assert str(caught.value) == message


_words = st.sampled_from(
    ("rules", "name", "why", "deny", "allow", "from", "to", "any", "not", "tenant", "other", "label", "protocol", "tcp",
     "ports", "80-", "[z-a]", "*", "", "a b", "<<")
)  # fmt: skip
_leaves = st.one_of(_words, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates())
_documents = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_words, inner, max_size=6)),
    max_leaves=25,
)


def texts() -> Iterator[st.SearchStrategy[bytes]]:
    """Yield ways to make files: bytes, texts, and documents with words that mean something somewhere."""
    yield st.binary(max_size=60)
    yield st.text(max_size=60).map(lambda text: text.encode(errors="replace"))
    yield _documents.map(lambda document: yaml.safe_dump(document, allow_unicode=True).encode(errors="replace"))
    yield st.lists(st.dictionaries(_words, _documents, max_size=6), max_size=3).map(
        lambda rules: yaml.safe_dump({"rules": rules}, allow_unicode=True).encode(errors="replace")
    )
    yield st.sampled_from((b"rules: &a [*a]", b"rules: &a\n- deny: &b {to: {not: *b}, from: *b}\n  name: *a"))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that is written again and again."""
    return tmp_path_factory.mktemp("policy") / "policy.yaml"


@given(content=st.one_of(*texts()))
@settings(deadline=None, max_examples=300)
def test_any_file_is_a_policy_or_a_named_mistake(scratch: Path, content: bytes) -> None:
    """Nothing that somebody writes ends in another way."""
    scratch.write_bytes(content)
    try:
        assert policyfile.read(scratch).rules
    except ConfigError as error:
        assert str(scratch) in str(error)  # noqa: PT017 - both outcomes are right
