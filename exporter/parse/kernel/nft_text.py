"""Statements as nft writes them, for people: nft's JSON has no text.

What it has counted is no part of it: it would be another one at every look.

What is not known here is shown as compact JSON, and long sets are cut short.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from exporter.parse.kernel.nft_values import items, pair, properties, tagged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SHOWN = 12
"""Elements of a set that are shown."""

_LONGEST = 400
"""Characters of JSON that are shown."""

_WITHOUT_META = frozenset({
    "iif", "oif", "iifname", "oifname", "iifgroup", "oifgroup", "iiftype", "oiftype", "skuid", "skgid", "rtclassid",
})  # fmt: skip
"""Keys that nft prints without `meta`."""

_QUOTED = frozenset({"iif", "oif", "iifname", "oifname", "iifkind", "oifkind", "ibrname", "obrname", "sdifname"})
"""Keys whose values nft prints in quotes."""

_OPERATORS = ("&", "|", "^", "<<", ">>")


def statement_text(said: object) -> str:
    """Return a statement."""
    try:
        name, body = tagged(said)
        handler = _STATEMENTS.get(name)
        return handler(body) if handler else name if body is None else _json(said)
    except ValueError:
        return _json(said)


def match_text(body: object) -> str:
    """Return a comparison: `iifname != "eth0"`."""
    try:
        return match_texts(properties(body))(properties(body).get("right"))
    except ValueError:
        return _json(body)


def _json(said: object) -> str:
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"), default=str)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


# --- Values and expressions ---


def _value(said: object, *, quoted: bool = False) -> str:
    if isinstance(said, bool):
        return "exists" if said else "missing"
    if isinstance(said, str):
        plain = not quoted or said.startswith("@") or said == "*"
        return said if plain else json.dumps(said, ensure_ascii=False)
    if isinstance(said, list | tuple):
        return ",".join(_value(part, quoted=quoted) for part in said)
    return _composed(said, quoted=quoted) if isinstance(said, dict) else str(said)


def _composed(said: object, *, quoted: bool) -> str:
    name, body = tagged(said)
    if name == "set":
        shown = items(body) if isinstance(body, list | tuple) else [body]
        return _braces([_value(part, quoted=quoted) for part in shown[:_SHOWN]], len(shown))
    if name == "prefix":
        prefix = properties(body)
        return f"{_value(prefix.get('addr'))}/{prefix.get('len')}"
    if name == "elem":
        return _value(properties(body).get("val"), quoted=quoted)
    if name in _JOINED and not any(isinstance(part, dict) and len(part) > 1 for part in items(body)):
        return _JOINED[name].join(_value(part, quoted=quoted) for part in items(body))
    return _expression(said)


_JOINED = {"range": "-", "concat": " . "}


def _braces(shown: Sequence[str], all_of_them: int) -> str:
    rest = ["…"] if all_of_them > len(shown) else []
    return f"{{ {', '.join([*shown, *rest])} }}" if all_of_them else "{ }"


def _expression(said: object) -> str:
    if not isinstance(said, dict):
        return _value(said)
    name, body = tagged(said)
    if name in _OPERATORS:
        return f" {name} ".join(_expression(part) for part in items(body))
    if name == "concat":
        return " . ".join(map(_expression, items(body)))
    handler = _EXPRESSIONS.get(name)
    return handler(properties(body)) if handler else _json(said)


def _payload(body: Mapping[str, object]) -> str:
    if "protocol" in body:
        return f"{body['protocol']} {body.get('field')}"
    return f"@{body.get('base')},{body.get('offset')},{body.get('len')}"


def _meta(body: Mapping[str, object]) -> str:
    key = str(body.get("key"))
    return key if key in _WITHOUT_META else f"meta {key}"


def _connection(body: Mapping[str, object]) -> str:
    return f"ct {body['dir']} {body.get('key')}" if "dir" in body else f"ct {body.get('key')}"


def _route(body: Mapping[str, object]) -> str:
    flags = body.get("flags")
    looked_up = " . ".join(map(str, flags)) if isinstance(flags, list | tuple) else str(flags)
    return f"fib {looked_up} {body.get('result')}"


def _hash(body: Mapping[str, object]) -> str:
    return f"jhash {_expression(body.get('expr'))} mod {body.get('mod')}"


def _map(body: Mapping[str, object]) -> str:
    return f"{_expression(body.get('key'))} map {_entries(body)}"


def _entries(body: Mapping[str, object]) -> str:
    data = body.get("data")
    if not isinstance(data, dict):
        return _value(data)
    pairs = [pair(entry) for entry in items(data.get("set"))]
    quoted = _has_names(body.get("key"))
    shown = [f"{_value(key, quoted=quoted)} : {_target(value)}" for key, value in pairs[:_SHOWN]]
    return _braces(shown, len(pairs))


def _target(value: object) -> str:
    if isinstance(value, dict) and _VERDICTS.keys() & value.keys():
        return statement_text(value)
    return _value(value)


def _has_names(said: object) -> bool:
    if not isinstance(said, dict):
        return False
    meta = said.get("meta")
    return isinstance(meta, dict) and str(meta.get("key")) in _QUOTED


_EXPRESSIONS: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _connection,
    "fib": _route,
    "numgen": lambda body: f"numgen {body.get('mode')} mod {body.get('mod')}",
    "symhash": lambda body: f"symhash mod {body.get('mod')}",
    "jhash": _hash,
    "map": _map,
    "socket": lambda body: f"socket {body.get('key')}",
    "rt": lambda body: f"rt {body.get('key')}",
    "tcp option": lambda body: " ".join(["tcp option", *map(str, body.values())]),
    "ip option": lambda body: " ".join(["ip option", *map(str, body.values())]),
    "exthdr": lambda body: " ".join(["exthdr", *map(str, body.values())]),
}


# --- Statements ---

_LEFT_OUT = ("==", "in")
"""Operators that nft does not print where they are what it would take anyhow."""


def match_texts(said: Mapping[str, object]) -> Callable[[object], str]:
    """Return what writes a comparison with its right side, or with others that are as much, or as little, a set."""
    left, operator = said.get("left"), said.get("op")
    shown = "" if operator in _LEFT_OUT and not _is_exact(operator, left, said.get("right")) else f" {operator}"
    begin, quoted = f"{_expression(left)}{shown}", _has_names(left)
    return lambda right: f"{begin} {_value(right, quoted=quoted)}"


def _is_exact(operator: object, left: object, right: object) -> bool:
    """Return whether `==` tells a comparison from one with any of some flags, as it does after `&`, too."""
    if operator != "==" or not isinstance(left, dict) or (isinstance(right, dict) and "set" in right):
        return False
    flags = left in ({"ct": {"key": "state"}}, {"ct": {"key": "status"}}) or left.get("payload") == {
        "protocol": "tcp",
        "field": "flags",
    }
    return flags or any(name in left for name in _OPERATORS)


def _counter(body: object) -> str:
    if isinstance(body, dict) and "map" in body:
        return _json({"counter": body})
    return f'counter name "{body}"' if isinstance(body, str) else "counter"


def _reject(body: object) -> str:
    if body is None:
        return "reject"
    said = properties(body)
    expression = said.get("expr")
    return f"reject with {said.get('type')}" + ("" if expression is None else f" {expression}")


def _verdict(name: str) -> Callable[[object], str]:
    def text(body: object) -> str:
        return name if body is None else f"{name} {properties(body).get('target')}"

    return text


def _translation(name: str) -> Callable[[object], str]:
    def text(body: object) -> str:
        said = properties(body) if body is not None else {}
        address, port = said.get("addr"), said.get("port")
        place = "" if address is None else _value(address)
        if port is not None:
            place = f"[{place}]" if ":" in place and " " not in place else place
            place = f"{place}:{_value(port)}"
        flags = said.get("flags")
        parts = [name, said.get("family"), f"to {place}" if place else None, None if flags is None else _value(flags)]
        return " ".join(str(part) for part in parts if part is not None)

    return text


def _mangle(body: object) -> str:
    said = properties(body)
    return f"{_expression(said.get('key'))} set {_value(said.get('value'))}"


def _change_of_set(body: object) -> str:
    said = properties(body)
    stateful = said.get("stmt")
    rest = [statement_text(each) for each in stateful] if isinstance(stateful, list | tuple) else []
    return f"{said.get('op')} {said.get('set')} {{ {' '.join([_value(said.get('elem')), *rest])} }}"


def _limit(body: object) -> str:
    if not isinstance(body, dict):
        return f'limit name "{body}"'
    over = "over " if body.get("inv") is True else ""
    return f"limit rate {over}{body.get('rate')}/{body.get('per')}"


def _quota(body: object) -> str:
    if not isinstance(body, dict):
        return f'quota name "{body}"'
    return f"quota {'over' if body.get('inv') is True else 'until'} {body.get('val')} {body.get('val_unit')}"


def _module(body: object) -> str:
    said = properties(body)
    told = said.get("options")
    return told if isinstance(told, str) else f"xt {said.get('type')} {said.get('name')}"


def _log(body: object) -> str:
    if not isinstance(body, dict):
        return "log"
    parts = [f"{key} {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in body.items()]
    return " ".join(["log", *parts])


_VERDICTS: Mapping[str, Callable[[object], str]] = {
    name: _verdict(name) for name in ("accept", "drop", "continue", "return", "jump", "goto")
}

_STATEMENTS: Mapping[str, Callable[[object], str]] = {
    "match": lambda body: match_texts(properties(body))(properties(body).get("right")),
    "counter": _counter,
    "reject": _reject,
    "vmap": lambda body: f"{_expression(properties(body).get('key'))} vmap {_entries(properties(body))}",
    "mangle": _mangle,
    "set": _change_of_set,
    "limit": _limit,
    "quota": _quota,
    "log": _log,
    "xt": _module,
    **_VERDICTS,
    **{name: _translation(name) for name in ("dnat", "snat", "masquerade", "redirect", "tproxy")},
}
