"""value name -> an interval that provably holds every element of it, NaN apart.

Relu(x) -> [0, inf); Sigmoid(x) + Relu(y) -> [0, inf); x * x -> [0, inf); Clip(x, -1, 1) -> [-1, 1]; Conv(Relu(x), w)
with no negative weight -> [0, inf). What is not in the table is (-inf, inf). Sums of products are taken as sums: a
Winograd kernel (some on CUDA) may return a zero as its own rounding error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from onnxact.check.graph import attribute, constants, element_types, integer, producers
from onnxact.check.interval import ANY, NOT_NEGATIVE, UNIT, ZERO, Interval

_MAX_DEPTH = 64
_UNSIGNED = {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Values:
    """What the main graph says of its values. `inputs` are fed by the caller, whatever their initializer says."""

    producers: Mapping[str, NodeProto]
    constants: Mapping[str, TensorProto]
    types: Mapping[str, int]
    inputs: frozenset[str]


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

    def number(self, name: str, default: float) -> float:
        """A floating attribute."""
        found = attribute(self.node, name)
        return default if found is None else found.f


_Rule = Callable[[_Operands], Interval]


def values_of(graph: GraphProto) -> Values:
    """Collect the facts of a graph once. Inputs with an initializer can be overridden, so they bound nothing."""
    names = frozenset(value.name for value in graph.input)
    return Values(producers(graph.node), constants(graph), element_types(graph), names)


def interval(values: Values, name: str) -> Interval:
    """What can be said of the value `name` from the nodes that lead to it, at most 64 back."""
    return intervals(values, [name])[name]


def intervals(values: Values, names: Iterable[str]) -> dict[str, Interval]:
    """The same for many values. In the order of the graph each builds on the ones before it."""
    known: dict[str, Interval] = {}
    return {name: _interval(values, name, known, 0) for name in names}


def _interval(values: Values, name: str, known: dict[str, Interval], depth: int) -> Interval:
    if name not in known:
        known[name] = _of_type(values.types.get(name)).meet(_derived(values, name, known, depth))
    return known[name]


def _derived(values: Values, name: str, known: dict[str, Interval], depth: int) -> Interval:
    if name in values.inputs:
        return ANY
    if name in values.constants:
        return _of_constant(values.constants[name])
    node = values.producers.get(name)
    rule = None if node is None or depth > _MAX_DEPTH else _RULES.get(node.op_type)
    if node is None or rule is None or node.domain not in {"", "ai.onnx"}:
        return ANY
    if name != node.output[0] and node.op_type != "Split":
        return ANY
    return rule(_Operands(node, values, known, depth))


def _of_type(elem_type: int | None) -> Interval:
    if elem_type == TensorProto.BOOL:
        return UNIT
    return NOT_NEGATIVE if elem_type in _UNSIGNED else ANY


def _of_constant(tensor: TensorProto) -> Interval:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type == TensorProto.STRING:
        return ANY
    array = numpy_helper.to_array(tensor)
    if array.size == 0 or array.dtype.kind == "c":
        return ANY
    values = array.astype(np.float64)
    return ANY if np.isnan(values).any() else Interval(float(values.min()), float(values.max()))


def _fixed(found: Interval) -> _Rule:
    return lambda _operands: found


def _same(operands: _Operands) -> Interval:
    return operands[0]


def _same_or_zero(operands: _Operands) -> Interval:
    return operands[0].hull(ZERO)


def _same_if_not_negative(operands: _Operands) -> Interval:
    """The identity for x >= 0, whatever the slope or alpha."""
    found = operands[0]
    return found if found.low >= 0 else ANY


def _sign_kept(operands: _Operands) -> Interval:
    """The sign of x, not its size: f(x) >= 0 for x >= 0 and f(x) <= 0 for x <= 0."""
    return operands[0].sign()


def _average(operands: _Operands) -> Interval:
    return operands[0].widened()


def _average_with_padding(operands: _Operands) -> Interval:
    return operands[0].hull(ZERO).widened()


def _hull(operands: _Operands) -> Interval:
    return reduce(Interval.hull, operands.every())


def _constant_of_shape(operands: _Operands) -> Interval:
    value = attribute(operands.node, "value")
    return ZERO if value is None else _of_constant(value.t)


def _relu(operands: _Operands) -> Interval:
    found = operands[0]
    return Interval(max(found.low, 0.0), max(found.high, 0.0))


def _sub(operands: _Operands) -> Interval:
    return operands[0].plus(operands[1].negated())


def _mul(operands: _Operands) -> Interval:
    square = operands.node.input[0] == operands.node.input[1]
    return NOT_NEGATIVE if square else operands[0].times(operands[1])


def _div(operands: _Operands) -> Interval:
    divisor = operands[1].reciprocal()
    return operands[0].times(divisor)


def _pow(operands: _Operands) -> Interval:
    exponent = operands[1]
    even = exponent.low == exponent.high and exponent.low % 2 == 0
    return NOT_NEGATIVE if even or operands[0].low >= 0 else ANY


def _max(operands: _Operands) -> Interval:
    return reduce(lambda a, b: Interval(max(a.low, b.low), max(a.high, b.high)), operands.every())


def _min(operands: _Operands) -> Interval:
    return reduce(lambda a, b: Interval(min(a.low, b.low), min(a.high, b.high)), operands.every())


def _clip(operands: _Operands) -> Interval:
    """min(max(x, lowest), highest); the bounds are attributes below opset 11."""
    found = operands[0]
    lowest = _clip_bound(operands, "min", 1, -math.inf)
    highest = _clip_bound(operands, "max", 2, math.inf)
    low = min(max(found.low, lowest.low), highest.low)
    return Interval(low, min(max(found.high, lowest.high), highest.high))


def _clip_bound(operands: _Operands, name: str, position: int, absent: float) -> Interval:
    if operands.given(position):
        return operands[position]
    bound = operands.number(name, absent)
    return Interval(bound, bound)


def _weighted_sum(operands: _Operands) -> Interval:
    """The sign of x * w + b, summed over any number of products: Conv, ConvTranspose, MatMul."""
    products = operands[0].times(operands[1]).sign()
    bias = operands[2].sign() if operands.given(2) else ZERO
    return products.plus(bias).sign()


def _gemm(operands: _Operands) -> Interval:
    positive = operands.number("alpha", 1.0) >= 0 and operands.number("beta", 1.0) >= 0
    return _weighted_sum(operands) if positive else ANY


def _batch_normalization(operands: _Operands) -> Interval:
    """(x - mean) * scale / sqrt(variance + epsilon) + bias, with the extremes over all channels."""
    variance = operands[4]
    if variance.low < 0 or integer(operands.node, "training_mode", 0):
        return ANY
    epsilon = operands.number("epsilon", 1e-5)
    deviation = Interval(math.sqrt(variance.low + epsilon), math.sqrt(variance.high + epsilon))
    factor = operands[1].times(deviation.reciprocal())
    return operands[0].plus(operands[3].negated()).times(factor).plus(operands[2])


def _cast(operands: _Operands) -> Interval:
    """To a floating type values are rounded; to an integer type they may wrap, so only that type bounds them."""
    target = integer(operands.node, "to", 0)
    return operands[0].widened() if target in _FLOATS else _of_type(target)


def _pad(operands: _Operands) -> Interval:
    """The value is an attribute below opset 11."""
    mode = attribute(operands.node, "mode")
    if mode is not None and mode.s != b"constant":
        return operands[0]
    if operands.given(2):
        return operands[0].hull(operands[2])
    value = operands.number("value", 0.0)
    return operands[0].hull(Interval(value, value))


def _resize(operands: _Operands) -> Interval:
    """Nearest and linear sampling stay within x; cubic and extrapolation do not."""
    mode, transform = (attribute(operands.node, name) for name in ("mode", "coordinate_transformation_mode"))
    cubic = mode is not None and mode.s == b"cubic"
    crop = transform is not None and transform.s == b"tf_crop_and_resize"
    return ANY if cubic or crop else operands[0].widened()


def _where(operands: _Operands) -> Interval:
    return operands[1].hull(operands[2])


def _dequantize(operands: _Operands) -> Interval:
    """(q - zero point) * scale, where q is unsigned and the zero point 0."""
    zero = operands[2] if operands.given(2) else ZERO
    return NOT_NEGATIVE if zero == ZERO and operands[0].low >= 0 and operands[1].low >= 0 else ANY


def _quantize(operands: _Operands) -> Interval:
    """The zero point has the type of the result; without one and without output_dtype that is uint8."""
    if operands.given(2):
        return _of_type(operands.values.types.get(operands.node.input[2]))
    return ANY if integer(operands.node, "output_dtype", 0) else Interval(0.0, 255.0)


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax", "Hardmax"), _fixed(UNIT)),
    **dict.fromkeys(("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"), _fixed(UNIT)),
    **dict.fromkeys(("And", "Or", "Xor", "Not", "IsNaN", "IsInf"), _fixed(UNIT)),
    **dict.fromkeys(("Exp", "Sqrt", "Softplus", "LpPool", "GlobalLpPool"), _fixed(NOT_NEGATIVE)),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare"), _fixed(NOT_NEGATIVE)),
    **dict.fromkeys(("Shape", "Size", "NonZero", "ArgMax", "ArgMin"), _fixed(NOT_NEGATIVE)),
    **dict.fromkeys(("Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"), _same),
    **dict.fromkeys(("Slice", "Gather", "GatherElements", "GatherND", "DepthToSpace", "SpaceToDepth", "Split"), _same),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "ReverseSequence"), _same),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _average),
    **dict.fromkeys(("Dropout", "ReduceSum", "CumSum", "Sign", "Ceil", "Floor", "Round"), _sign_kept),
    **dict.fromkeys(("Tanh", "Softsign", "Erf", "Atan", "HardSwish", "Mish", "Gelu"), _sign_kept),
    **dict.fromkeys(("LeakyRelu", "PRelu", "Elu", "Celu"), _same_if_not_negative),
    **dict.fromkeys(("Conv", "ConvTranspose", "MatMul"), _weighted_sum),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "AveragePool": _average_with_padding,
    "ThresholdedRelu": _same_or_zero,
    "ConstantOfShape": _constant_of_shape,
    "Relu": _relu,
    "Abs": lambda operands: operands[0].magnitude(),
    "Neg": lambda operands: operands[0].negated(),
    "Add": lambda operands: operands[0].plus(operands[1]),
    "Sub": _sub,
    "Sum": lambda operands: reduce(Interval.plus, operands.every()),
    "Mean": lambda operands: _hull(operands).widened(),
    "Mul": _mul,
    "Div": _div,
    "Pow": _pow,
    "Max": _max,
    "Min": _min,
    "Clip": _clip,
    "Concat": _hull,
    "Where": _where,
    "Gemm": _gemm,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Pad": _pad,
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}
