"""value name -> an interval that provably holds every element of it, NaN apart.

Relu(x) -> [0, inf); Sigmoid(x) + Relu(y) -> [0, inf); x * x -> [0, inf); Clip(x, -1, 1) -> [-1, 1]; Conv(Relu(x), w)
with no negative weight -> [0, inf). What is not in the table is (-inf, inf). Sums of products are taken as sums: a
Winograd kernel (some on CUDA) may return a zero as its own rounding error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import FunctionProto, GraphProto, NodeProto, TensorProto

from onnxact.check.bound_operands import of_constant, of_type
from onnxact.check.bound_rules import RULES
from onnxact.check.graph import constants, element_types
from onnxact.check.interval import ANY, Interval
from onnxact.check.scopes import Chain, Level

_MAX_DEPTH = 64


@dataclass(frozen=True)
class Values:
    """What graphs say of their values. `inputs` come from outside, whatever their initializer says."""

    producers: Mapping[str, NodeProto]
    constants: Mapping[str, TensorProto]
    types: Mapping[str, int]
    inputs: frozenset[str]
    folder: Path | None = None


@dataclass(frozen=True)
class _Operands:
    """The node of a rule, with the intervals of its inputs on demand; everything for an input that is left out."""

    node: NodeProto
    values: Values
    known: dict[str, Interval]
    depth: int

    def __getitem__(self, position: int) -> Interval:
        if not self.given(position):
            return ANY
        return _interval(self.values, self.node.input[position], self.known, self.depth + 1)

    def given(self, position: int) -> bool:
        """Whether the node has this input."""
        return position < len(self.node.input) and bool(self.node.input[position])

    def every(self) -> list[Interval]:
        """All of them."""
        return [self[position] for position in range(len(self.node.input))]

    def elem_type(self, position: int) -> int | None:
        """The element type of an input, None where the graph does not state it."""
        return self.values.types.get(self.node.input[position]) if self.given(position) else None


def values_of(graph: GraphProto) -> Values:
    """Collect the facts of a graph once. Inputs with an initializer can be overridden, so they bound nothing."""
    return values_in(Chain((Level(graph),)))


def values_in(chain: Chain) -> Values:
    """The same for the names that are visible in a body: its own before those around it."""
    makers: dict[str, NodeProto] = {}
    stored: dict[str, TensorProto] = {}
    types: dict[str, int] = {}
    inputs: set[str] = set()
    for level in reversed(chain.levels):
        graph = level.graph
        if isinstance(graph, FunctionProto):
            continue
        here = {name: node for name, (_, node) in level.makers.items()}
        fixed = {**constants(graph), **{name: t for name, t in level.stored.items() if isinstance(t, TensorProto)}}
        inputs -= here.keys() | fixed.keys()
        inputs |= level.inputs
        makers.update(here)
        stored.update(fixed)
        types.update(element_types(graph))
        types.update({name: tensor.data_type for name, tensor in fixed.items()})
    return Values(makers, stored, types, frozenset(inputs), chain.levels[-1].folder)


def interval(values: Values, name: str, known: dict[str, Interval] | None = None) -> Interval:
    """What can be said of the value `name` from the nodes that lead to it, at most 64 back.

    `known` takes up what is found on the way, so that the next value builds on it.
    """
    return _interval(values, name, {} if known is None else known, 0)


def _interval(values: Values, name: str, known: dict[str, Interval], depth: int) -> Interval:
    if name not in known:
        known[name] = of_type(values.types.get(name)).meet(_derived(values, name, known, depth))
    return known[name]


def _derived(values: Values, name: str, known: dict[str, Interval], depth: int) -> Interval:
    if name in values.inputs:
        return ANY
    if name in values.constants:
        return of_constant(values.constants[name], values.folder)
    node = values.producers.get(name)
    rule = None if node is None or depth > _MAX_DEPTH else RULES.get(node.op_type)
    if node is None or rule is None or node.domain not in {"", "ai.onnx"}:
        return ANY
    if name != node.output[0] and node.op_type != "Split":
        return ANY
    return rule(_Operands(node, values, known, depth))
