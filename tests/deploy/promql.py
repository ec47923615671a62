"""What an expression asks for: its selectors, and the functions they stand in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import promql_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

RATES: Final = ("rate", "irate", "increase")

_VARIABLES: Final = {"$__rate_interval": "5m", "$__interval": "1m", "$job": "docker-icc", "$instance": ".+"}
_EXAMPLES: Final = {"$__rate_interval": "5m", "$__interval": "1m"}


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric with its matchers as written, in the innermost function that takes its range, if any does."""

    metric: str
    matchers: frozenset[tuple[str, str, str]]
    function: str = ""


def with_values(expr: str, **values: str) -> str:
    """Return an expression with Grafana's variables replaced."""
    for name, value in (_VARIABLES | {f"${name}": value for name, value in values.items()}).items():
        expr = expr.replace(name, value)
    return expr


def selectors(expr: str) -> list[Selector]:
    """Return the selectors of an expression. Raises ValueError where it is none."""
    for name, example in _EXAMPLES.items():
        expr = expr.replace(name, example)
    return list(_selectors(promql_parser.parse(expr), ""))


def _selectors(node: Any, function: str) -> Iterator[Selector]:  # noqa: ANN401 - the kinds of node have no common type
    match type(node).__name__:
        case "VectorSelector":
            matchers = frozenset((each.name, _sign(each.op), each.value) for each in node.matchers.matchers)
            yield Selector(node.name, matchers, function)
        case "MatrixSelector":
            yield from _selectors(node.vector_selector, function)
        case "Call":
            for argument in node.args:
                yield from _selectors(argument, node.func.name)
        case "BinaryExpr":
            yield from _selectors(node.lhs, "")
            yield from _selectors(node.rhs, "")
        case "AggregateExpr" | "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
            yield from _selectors(node.expr, "")


def _sign(operator: Any) -> str:  # noqa: ANN401 - an enumeration of the library, without type hints
    return {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}[re.sub(r"^.*\.", "", str(operator))]
