"""(two ONNX models) -> where they are not the same model up to names: node for node, weight for weight.

Two models that are the same up to names compute the same, whatever goes in; no run is needed to tell. The walk is from
the outputs to what they are made of, so that the order of nodes, and what no output needs, make no difference.

An activation is one node here, with its parameters to the bit, in whichever form it is written: Softsign(x) is
x / (1 + Abs(x)). A Softplus that turns into x above 20 is one that does not where no type is wider than float32: there
log(1 + exp(x)) rounds to x from 17 on. One number may be held as [1] or as [].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from onnxact.model.view import View
from onnxact.rewrite.find import find
from onnxact.rewrite.site import Bound, Site, Tensor

Pair = tuple[str, str]
Sites = Mapping[str, Site]
"""Value -> the activation that makes it."""
_ROUNDS_AWAY = 20.0
"""torch.nn.Softplus's threshold: exp(-20) = 2.1e-9 is less than half a unit in the last place of a float32 above it."""


def difference(left: ModelProto, right: ModelProto) -> str:
    """Return the first place at which two models of the same opset are not the same, "" where there is none."""
    opsets = [{(o.domain, o.version) for o in model.opset_import} for model in (left, right)]
    if opsets[0] != opsets[1]:
        return f"opsets {sorted(opsets[0])} and {sorted(opsets[1])}"
    if left.functions or right.functions:
        return "local functions are not compared"
    return _graphs(left.graph, right.graph, None, (_sites(left), _sites(right)))


def _sites(model: ModelProto) -> Sites:
    """Return the activations whose outputs have a name that no other has."""
    sites = find(View(model)).sites
    names = Counter(site.output for site in sites)
    return {site.output: site for site in sites if names[site.output] == 1}


@dataclass(frozen=True)
class _Side:
    """One graph: what makes each value, and the graph around it."""

    graph: GraphProto
    inputs: Mapping[str, int]
    made: Mapping[str, tuple[NodeProto, int]]
    stored: Mapping[str, TensorProto]

    @classmethod
    def of(cls, graph: GraphProto) -> _Side:
        made = {name: (node, at) for node in graph.node for at, name in enumerate(node.output) if name}
        stored = {tensor.name: tensor for tensor in graph.initializer}
        constants = {n: t for n, (node, _) in made.items() if (t := _constant(node)) is not None}
        inputs = {value.name: at for at, value in enumerate(graph.input)}
        return cls(graph, inputs, made, {**stored, **constants})


@dataclass
class _Walk:
    """Two graphs that are walked side by side; `around`: the walk of the graphs that these stand in."""

    left: _Side
    right: _Side
    around: _Walk | None
    sites: tuple[Sites, Sites]
    same: set[Pair] = field(default_factory=set)

    def compare(self, wanted: Sequence[Pair]) -> str:
        """Return where the values of these pairs are not made in the same way."""
        pending = [*reversed(wanted)]
        while pending:
            pair = pending.pop()
            if pair in self.same or pair == ("", ""):
                continue
            self.same.add(pair)
            found = self._made(pair)
            if isinstance(found, str):
                return found
            pending += reversed(found)
        return ""

    def _made(self, pair: Pair) -> Sequence[Pair] | str:
        """Return the pairs that two values are made of, or how they differ."""
        left, right = pair
        one, other = self.sites[0].get(left), self.sites[1].get(right)
        if one is not None and other is not None and left in self.left.made and right in self.right.made:
            return _activations(one, other)
        if left in self.left.stored or right in self.right.stored:
            return _tensors(self.left.stored.get(left), self.right.stored.get(right), pair)
        if left in self.left.made and right in self.right.made:
            (node, at), (theirs, position) = self.left.made[left], self.right.made[right]
            return self._nodes(node, theirs) if at == position else f"{left!r} and {right!r} are other outputs"
        if left in self.left.inputs or right in self.right.inputs:
            same = self.left.inputs.get(left) == self.right.inputs.get(right)
            return () if same else f"{left!r} and {right!r} are other inputs"
        if self.around is None or left in self.left.made or right in self.right.made:
            return f"{left!r} and {right!r} are not made in the same way"
        return self.around.compare([pair]) or ()

    def _nodes(self, left: NodeProto, right: NodeProto) -> Sequence[Pair] | str:
        where = f"{left.op_type} {left.name!r} and {right.op_type} {right.name!r}"
        counts = [(node.op_type, node.domain, len(node.input), len(node.output)) for node in (left, right)]
        if counts[0] != counts[1]:
            return where
        ours, theirs = ({a.name: a for a in node.attribute} for node in (left, right))
        if ours.keys() != theirs.keys():
            return f"attributes of {where}: {sorted(ours)} and {sorted(theirs)}"
        for name, attribute in ours.items():
            if found := self._attributes(attribute, theirs[name]):
                return f"attribute {name} of {where}: {found}"
        return [*zip(left.input, right.input, strict=True)]

    def _attributes(self, left: AttributeProto, right: AttributeProto) -> str:
        if left.type != right.type:
            return "other types"
        if left.type == AttributeProto.GRAPH:
            return _graphs(left.g, right.g, self, self.sites)
        if left.type == AttributeProto.GRAPHS:
            return "lists of graphs are not compared"
        same = left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True)
        return "" if same else "other values"


def _graphs(left: GraphProto, right: GraphProto, around: _Walk | None, known: tuple[Sites, Sites]) -> str:
    sides = (_Side.of(left), _Side.of(right))
    for what in ("input", "output"):
        kinds = [
            [value.type.SerializeToString(deterministic=True) for value in getattr(g, what)] for g in (left, right)
        ]
        if len(kinds[0]) != len(kinds[1]) or (around is None and kinds[0] != kinds[1]):
            return f"other {what}s"
    pairs = zip((value.name for value in left.output), (value.name for value in right.output), strict=True)
    return _Walk(*sides, around, known).compare([*pairs])


def _activations(left: Site, right: Site) -> Sequence[Pair] | str:
    """Return the pair of inputs of two sites of the same activation with the same parameters, or how they differ."""
    where = f"{left.where} and {right.where}"
    if left.activation != right.activation or left.dtype != right.dtype:
        return f"{left.activation} and {right.activation}: {where}"
    ours, theirs = _settled(left), _settled(right)
    other = [name for name in ours.keys() | theirs.keys() if not _same(ours.get(name), theirs.get(name))]
    return f"{', '.join(sorted(other))} of {left.activation}: {where}" if other else [(left.input, right.input)]


def _settled(site: Site) -> Mapping[str, Bound]:
    """Return the parameters that make a difference in the site's dtype."""
    narrow = site.dtype in ("float32", "float16", "bfloat16")
    return {
        name: value
        for name, value in site.parameters.items()
        if not (narrow and name == "threshold" and _number(value) >= _ROUNDS_AWAY)
    }


def _number(value: Bound) -> float:
    """Return a parameter that is one number, else NaN."""
    number = value.value if isinstance(value, Tensor) else value
    return float(np.reshape(number, ())) if isinstance(value, (float, Tensor)) and np.size(number) == 1 else np.nan


def _same(left: Bound | None, right: Bound | None) -> bool:
    if isinstance(left, (float, Tensor)) and isinstance(right, (float, Tensor)):
        ours, theirs = (np.asarray(v.value if isinstance(v, Tensor) else v) for v in (left, right))
        return ours.size == theirs.size and bool(np.array_equal(ours.reshape(-1), theirs.reshape(-1)))
    return left is not None and left == right and isinstance(left, str)


def _constant(node: NodeProto) -> TensorProto | None:
    """Return the tensor that a Constant node holds."""
    return next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None


def _tensors(left: TensorProto | None, right: TensorProto | None, pair: Pair) -> Sequence[Pair] | str:
    if left is None or right is None:
        return f"{pair[0]!r} and {pair[1]!r}: one is stored, one is not"
    if TensorProto.EXTERNAL in {left.data_location, right.data_location}:
        return f"{pair[0]!r} and {pair[1]!r}: external data are not compared"
    ours, theirs = _bits(left), _bits(right)
    alike = left.data_type == right.data_type and (ours.shape == theirs.shape or ours.size == theirs.size == 1)
    if not alike or ours.tobytes() != theirs.tobytes():
        return f"the constants {pair[0]!r} {list(ours.shape)} and {pair[1]!r} {list(theirs.shape)}"
    return ()


def _bits(tensor: TensorProto) -> Any:
    return np.ascontiguousarray(numpy_helper.to_array(tensor))
