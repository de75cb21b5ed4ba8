"""Value name -> element type and shape, in one scope.

Element types come from the model's own declarations and are carried along the ops' type variables (`onnx.defs`); only
where that does not reach is `onnx.shape_inference` run, on a copy without weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, cast

from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, TypeProto

from onnxact.model.calls import PENDING
from onnxact.model.schema import FLOAT_TYPES, TypeRule, plain, type_rules

if TYPE_CHECKING:
    from onnxact.model.scope import Scope

Shape = tuple[int | str | None, ...]
_FLOATS: dict[int, str] = {int(elem_type): name for elem_type, name in FLOAT_TYPES.items()}
_FROM_ATTRIBUTE = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype",
                   "RandomNormalLike": "dtype", "RandomUniformLike": "dtype", "Multinomial": "dtype"}  # fmt: skip

_LIKE_FIRST_INPUT = {
    "": {"LayerNormalization", "SimplifiedLayerNormalization"},
    "com.microsoft": {
        "Attention", "BiasAdd", "BiasGelu", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "Gelu", "GemmFastGelu",
        "GroupQueryAttention", "MatMulNBits", "MultiHeadAttention", "NhwcFusedConv", "QLinearLeakyRelu",
        "QLinearSigmoid", "QuickGelu", "RotaryEmbedding", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    },
    "com.microsoft.nchwc": {
        "AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReorderInput", "ReorderOutput",
        "Upsample",
    },
}  # fmt: skip
"""Ops of ONNX Runtime whose first output has the type of the first input (its docs/ContribOperators.md). It has
LayerNormalization among ONNX's own ops at any opset."""
_BRANCHES = {"If": ("then_branch", 0), "Loop": ("body", 1), "Scan": ("body", 0)}
"""Op -> the subgraph that its outputs come from, and the position of the first there."""


class Types:
    """The types of one scope's values, found out when they are asked for."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def dtype(self, name: str) -> str | None:
        """Return "float16", "bfloat16", "float32" or "float64"; None for any other or an unknown element type."""
        return _FLOATS.get(self.elem_type(name))

    def elem_type(self, name: str) -> int:
        """Return the TensorProto element type of a value, 0 where it cannot be told."""
        if self.only_type:
            return self.only_type
        known = self._known
        trail: list[str] = []
        while (found := known.get(name)) is None:
            known[name] = 0  # what a cycle, or a function that calls itself, finds
            trail.append(name)
            found, name = self._elem_type_step(name)
            if not name:
                break
        for passed in trail:
            if found == PENDING:
                del known[passed]
            else:
                known[passed] = found or 0
        return found or 0

    def forget(self) -> None:
        """Drop what was found out so far."""
        self.__dict__.pop("_known", None)

    @cached_property
    def _known(self) -> dict[str, int]:
        """The element types found so far; at first those declared, carried along the nodes in their order."""
        known = {name: type_.tensor_type.elem_type for name, type_ in self._scope.declared.items()}
        known = {name: found for name, found in known.items() if found}
        known.update((name, tensor.data_type) for name, tensor in self._scope.initializers.items())
        follows = {op: _first_input_rules(op, self._scope.opset) for op in set(self._scope.op_types)}
        for op, node in zip(self._scope.op_types, self._scope.nodes, strict=True):
            if follows[op] and (inputs := node.input) and (found := known.get(inputs[0])) and not node.domain:
                known.update((output, found) for output in node.output[:1] if output not in known)
        return known

    @cached_property
    def only_type(self) -> int:
        """The element type of every value, where there can be no other: 0 where there can."""
        if self._scope.parent is not None or isinstance(self._scope.graph, FunctionProto):
            return 0
        types = {type_.tensor_type.elem_type for type_ in self._scope.declared.values()}
        types.update(tensor.data_type for tensor in self._scope.graph.initializer)
        if len(types) != 1 or not all(_first_input_rules(op, self._scope.opset) for op in set(self._scope.op_types)):
            return 0
        return types.pop()

    def _elem_type_step(self, name: str) -> tuple[int, str]:
        """Return the element type, or 0 and the name of the value that has the same one."""
        index = self._scope.producers.get(name)
        if index is None:
            return self._elem_type_outside(name), ""
        declared = self._scope.declared.get(name)
        if declared is not None and declared.tensor_type.elem_type:
            return declared.tensor_type.elem_type, ""
        node = self._scope.nodes[index]
        return self._elem_type_of_output(node, index, list(node.output).index(name) if len(node.output) > 1 else 0)

    def _elem_type_outside(self, name: str) -> int:
        if name in self._scope.initializers:
            return self._scope.initializers[name].data_type
        if name in self._scope.sparse:
            return self._scope.sparse[name]
        declared = self._scope.declared.get(name)
        if declared is not None and declared.tensor_type.elem_type:
            return declared.tensor_type.elem_type
        if self._scope.is_function and name in self._scope.inputs:
            function = cast(FunctionProto, self._scope.graph)
            return self._scope.view.calls.argument_type(function, self._scope.inputs[name])
        if self._scope.parent is not None and name not in self._scope.inputs:
            return self._scope.parent.types.elem_type(name)
        return self._inferred_elem_type(name)

    def _inferred_elem_type(self, name: str) -> int:
        inferred = self._scope.view.inferred(self._scope.path).get(name)
        return inferred.tensor_type.elem_type if inferred is not None else 0

    def _elem_type_of_output(self, node: NodeProto, index: int, position: int) -> tuple[int, str]:
        op, domain = node.op_type, plain(node.domain)
        if domain == "" and (stated := _stated_type(node)):
            return stated, ""
        if (function := self._scope.view.functions.get((domain, op, node.overload))) is not None:
            found = function.types.elem_type(cast(FunctionProto, function.graph).output[position])
            return found or self._inferred_elem_type(node.output[position]), ""
        if branch := self._branch_output(op, index, position):
            return branch[0].types.elem_type(branch[1]), ""
        if position == 0 and op in _LIKE_FIRST_INPUT.get(domain, ()) and node.input:
            return 0, node.input[0]
        return self._elem_type_by_rule(node, type_rules(op, self._scope.opsets.get(domain, 1), domain), position)

    def _elem_type_by_rule(self, node: NodeProto, rules: Sequence[TypeRule], position: int) -> tuple[int, str]:
        if rules:
            rule = rules[min(position, len(rules) - 1)]
            if rule.fixed:
                return rule.fixed, ""
            if 0 <= rule.input < len(node.input) and node.input[rule.input]:
                return 0, node.input[rule.input]
        return self._inferred_elem_type(node.output[position]), ""

    def _branch_output(self, op: str, index: int, position: int) -> tuple[Scope, str] | None:
        attribute, offset = _BRANCHES.get(op, ("", 0))
        child = self._scope.children.get((index, attribute))
        if child is None or position + offset >= len(child.graph.output):
            return None
        return child, cast(GraphProto, child.graph).output[position + offset].name

    def shape(self, name: str, *, infer: bool = False) -> Shape | None:
        """Return a value's dimensions (int, symbol, or None each), or None for an unknown rank.

        As the model declares it; with `infer`, as onnx.shape_inference finds it where the model says nothing.
        """
        scope = self._scope if self._scope.parent is None else self._scope.owner(name) or self._scope
        if name in scope.initializers:
            return tuple(scope.initializers[name].dims)
        shape = _shape_of(scope.declared.get(name))
        if shape is None and infer:
            value = scope.constant(name) if name in scope.producers else None
            shape = value.shape if value is not None else _shape_of(self._scope.view.inferred(scope.path).get(name))
        return shape


@cache
def _first_input_rules(op: str, opset: int) -> bool:
    """Tell whether the op's outputs have the element type of its first input."""
    rules = type_rules(op, opset, "")
    follow = bool(rules) and all(rule == TypeRule(0, 0) for rule in rules)
    return follow and op not in _FROM_ATTRIBUTE and op not in _BRANCHES


def _stated_type(node: NodeProto) -> int:
    """Return the element type that a node states for its output by an attribute, 0 where it does not."""
    if node.op_type in ("Constant", "ConstantOfShape"):
        return _type_of_constant(node)
    wanted = _FROM_ATTRIBUTE.get(node.op_type)
    return next((a.i for a in node.attribute if a.name == wanted), 0) if wanted else 0


def _type_of_constant(node: NodeProto) -> int:
    for attribute in node.attribute:
        if attribute.name in ("value", "sparse_value"):
            return attribute.t.data_type or attribute.sparse_tensor.values.data_type
        if attribute.name.startswith("value_"):
            return {"f": TensorProto.FLOAT, "i": TensorProto.INT64}.get(attribute.name[6], TensorProto.STRING)
    return TensorProto.FLOAT


def _shape_of(declared: TypeProto | None) -> Shape | None:
    if declared is None or not declared.tensor_type.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
        for dim in declared.tensor_type.shape.dim
    )
