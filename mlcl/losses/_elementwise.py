"""A loss's pair weight as an arithmetic expression: what `weights(pairs)` does to one pair, as source text.

`weights` is written in torch for whole matrices. To put it into a GPU kernel it is called once with symbols in
place of the matrices (`torch.fx`); the operations it applies are recorded and written down as the body of a
function of three numbers, `shared`, `anchor_size` and `reference_size`. A loss file needs nothing extra.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from mlcl.losses._errors import NotFusedError

# Operations by how they read in the function's body; `tl` is Triton's language.
_INFIX: dict[Any, str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.gt: ">",
    operator.ge: ">=",
    operator.lt: "<",
    operator.le: "<=",
    operator.eq: "==",
    operator.ne: "!=",
    operator.and_: "&",
    operator.or_: "|",
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "eq": "==",
}
_CALLS: dict[Any, str] = {
    operator.neg: "-{0}",
    torch.where: "tl.where({0}, {1}, {2})",
    torch.minimum: "tl.minimum({0}, {1})",
    torch.maximum: "tl.maximum({0}, {1})",
    torch.exp: "tl.exp({0})",
    torch.log: "tl.log({0})",
    torch.sqrt: "tl.sqrt({0})",
    "minimum": "tl.minimum({0}, {1})",
    "maximum": "tl.maximum({0}, {1})",
    "clamp_min": "tl.maximum({0}, {1})",
    "clamp_max": "tl.minimum({0}, {1})",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sqrt": "tl.sqrt({0})",
    "square": "{0} * {0}",
    "abs": "tl.abs({0})",
    "neg": "-{0}",
    "float": "{0}.to(tl.float32)",
    "to": "{0}.to(tl.float32)",
}
_POWERS: dict[Any, str] = {1: "{0}", 2: "{0} * {0}", 0.5: "tl.sqrt({0})"}
ARGUMENTS = ("shared", "anchor_size", "reference_size")


class SymbolicPairs:
    """Stands for `Pairs`: the same names, whose values record what is done to them."""

    def __init__(self, graph: fx.Graph) -> None:
        tracer = fx.proxy.GraphAppendingTracer(graph)
        symbols = [fx.Proxy(graph.placeholder(name), tracer) for name in ARGUMENTS]
        self.shared, self.anchor_sizes, self.reference_sizes = symbols

    @property
    def union(self) -> Any:
        return operator.sub(operator.add(self.anchor_sizes, self.reference_sizes), self.shared)


def elementwise_source(weights: Callable[[Any], Any]) -> str:
    """Source of `pair_weight(shared, anchor_size, reference_size)`, which is what `weights(pairs)` does.

    Raises NotFusedError where it decides by a pair's value, or does what has no elementwise form.
    """
    graph, result = _trace(weights)
    lines = [f"def pair_weight({', '.join(ARGUMENTS)}):"]
    if not isinstance(result, fx.Proxy):
        return "\n".join([*lines, f"    return {_literal(result)}", ""])
    names: dict[fx.Node, str] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            names[node] = node.name
            continue
        in_place = node.op == "call_method" and node.target.endswith("_")  # changes its first argument
        names[node] = names[node.args[0]] if in_place else f"v{len(names)}"
        lines.append(f"    {names[node]} = {_expression(node, names, in_place)}")
    return "\n".join([*lines, f"    return {names[result.node]}.to(tl.float32)", ""])


def constant(weights: Callable[[Any], Any]) -> float:
    """The number that `weights(pairs)` returns for all pairs; raises NotFusedError where it is none."""
    _, result = _trace(weights)
    if isinstance(result, fx.Proxy):
        raise NotFusedError("its normalisers are of a label and an anchor each")
    return float(result)


def _trace(weights: Callable[[Any], Any]) -> tuple[fx.Graph, Any]:
    """The operations that `weights` applies to symbols, and what it returns."""
    graph = fx.Graph()
    try:
        return graph, weights(SymbolicPairs(graph))
    except (fx.proxy.TraceError, AttributeError, TypeError) as error:
        raise NotFusedError(f"its weights are not a plain expression of the pairs ({error})") from error


def _expression(node: fx.Node, names: dict[fx.Node, str], in_place: bool) -> str:
    operation: Any = node.target
    if in_place:
        operation = operation[:-1]
    if operation == "to" and not (len(node.args) == 2 and not node.kwargs and _to_float32(node.args[1])):
        raise NotFusedError("it converts to a type other than that of its numbers")
    values = [names[a] if isinstance(a, fx.Node) else a for a in node.args]
    arguments = [
        a if isinstance(a, str) else _literal(a) for a in (values[:1] if operation == "to" else values)
    ]
    if operation is operator.pow and node.args[1] in _POWERS and isinstance(node.args[0], fx.Node):
        return _POWERS[node.args[1]].format(*arguments)
    if operation == "clamp":
        return _clamped(*arguments, **{name: _literal(value) for name, value in node.kwargs.items()})
    if operation in _INFIX and len(arguments) == 2 and not node.kwargs:
        return f"{arguments[0]} {_INFIX[operation]} {arguments[1]}"
    form = _CALLS.get(operation)
    if form is None or node.kwargs or len(arguments) != form.count("{") - form.count("{0} * {0}"):
        raise NotFusedError(f"it uses {operation}, which has no elementwise form here")
    return form.format(*arguments)


def _clamped(value: str, min: str | None = None, max: str | None = None) -> str:  # noqa: A002
    value = value if min is None else f"tl.maximum({value}, {min})"
    return value if max is None else f"tl.minimum({value}, {max})"


def _to_float32(target: Any) -> bool:
    return isinstance(target, fx.Node) or target is torch.float32


def _literal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotFusedError(f"it uses {value!r}, which is no number")
    return repr(float(value)) if float("-inf") < value < float("inf") else f'float("{value}")'
