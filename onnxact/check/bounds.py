"""value name -> an interval that provably holds every element of it, NaN apart.

Relu(x) -> [0, inf); Sigmoid(x) + Relu(y) -> [0, inf); x * x -> [0, inf); Clip(x, -1, 1) -> [-1, 1]. What is not in the
table is (-inf, inf). Bounds of rounded results are widened by 1 %, which keeps their sign; 0 stays 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from onnxact.check.graph import attribute, constants, element_types, integer, producers

_MAX_DEPTH = 64
_UNSIGNED = {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Interval:
    """Both ends included."""

    low: float = -math.inf
    high: float = math.inf

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def meet(self, other: Interval) -> Interval:
        """What lies in both."""
        return Interval(max(self.low, other.low), min(self.high, other.high))

    def widened(self) -> Interval:
        """One percent further out at each end, for what rounding may do."""
        return Interval(self.low * (0.99 if self.low > 0 else 1.01), self.high * (1.01 if self.high > 0 else 0.99))


ANY = Interval()
NOT_NEGATIVE = Interval(0.0)
UNIT = Interval(0.0, 1.0)
ZERO = Interval(0.0, 0.0)


@dataclass(frozen=True)
class Values:
    """What the main graph says of its values. `inputs` are fed by the caller, whatever their initializer says."""

    producers: Mapping[str, NodeProto]
    constants: Mapping[str, TensorProto]
    types: Mapping[str, int]
    inputs: frozenset[str]


@dataclass(frozen=True)
class _Operands:
    """The node of a rule, with the intervals of its inputs on demand."""

    node: NodeProto
    values: Values
    known: dict[str, Interval]
    depth: int

    def __getitem__(self, position: int) -> Interval:
        if position >= len(self.node.input) or not self.node.input[position]:
            return ANY
        return _interval(self.values, self.node.input[position], self.known, self.depth + 1)

    def hull(self) -> Interval:
        """The hull of all inputs."""
        found = self[0]
        for position in range(1, len(self.node.input)):
            found = found.hull(self[position])
        return found

    def scalar(self, position: int) -> float | None:
        """The value of a constant one-element input."""
        found = self[position]
        return found.low if found.low == found.high else None


_Rule = Callable[[_Operands], Interval]


def values_of(graph: GraphProto) -> Values:
    """Collect the facts of a graph once. Inputs with an initializer can be overridden, so they bound nothing."""
    names = frozenset(value.name for value in graph.input)
    return Values(producers(graph.node), constants(graph), element_types(graph), names)


def interval(values: Values, name: str) -> Interval:
    """What can be said of the value `name` from the nodes that lead to it, at most 64 back."""
    return _interval(values, name, {}, 0)


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


def _average(operands: _Operands) -> Interval:
    return operands[0].widened()


def _average_with_padding(operands: _Operands) -> Interval:
    return operands[0].hull(ZERO).widened()


def _sign_kept(operands: _Operands) -> Interval:
    """The sign of x, not its size: Dropout scales in training, a sum adds up."""
    found = operands[0]
    return Interval(0.0 if found.low >= 0 else -math.inf, 0.0 if found.high <= 0 else math.inf)


def _relu(operands: _Operands) -> Interval:
    found = operands[0]
    return Interval(max(found.low, 0.0), max(found.high, 0.0))


def _abs(operands: _Operands) -> Interval:
    found = operands[0]
    ends = sorted((abs(found.low), abs(found.high)))
    return Interval(0.0 if found.low <= 0 <= found.high else ends[0], ends[1])


def _neg(operands: _Operands) -> Interval:
    found = operands[0]
    return Interval(-found.high, -found.low)


def _add(operands: _Operands) -> Interval:
    first, second = operands[0], operands[1]
    return Interval(first.low + second.low, first.high + second.high).widened()


def _sub(operands: _Operands) -> Interval:
    first, second = operands[0], operands[1]
    return Interval(first.low - second.high, first.high - second.low).widened()


def _sum(operands: _Operands) -> Interval:
    found = [operands[position] for position in range(len(operands.node.input))]
    return Interval(sum(item.low for item in found), sum(item.high for item in found)).widened()


def _mul(operands: _Operands) -> Interval:
    if operands.node.input[0] == operands.node.input[1]:
        return NOT_NEGATIVE
    return _products(operands[0], operands[1]).widened()


def _div(operands: _Operands) -> Interval:
    """By something with one sign that stays away from zero; else anything."""
    divisor = operands[1]
    if divisor.low <= 0 <= divisor.high:
        return ANY
    return _products(operands[0], Interval(1 / divisor.high, 1 / divisor.low)).widened()


def _products(first: Interval, second: Interval) -> Interval:
    """0 * inf is 0 here: an infinite end is not a value that occurs, a value there gives NaN."""
    ends = [0.0 if 0.0 in (a, b) else a * b for a in (first.low, first.high) for b in (second.low, second.high)]
    return Interval(min(ends), max(ends))


def _pow(operands: _Operands) -> Interval:
    exponent = operands.scalar(1)
    even = exponent is not None and exponent % 2 == 0
    return NOT_NEGATIVE if even or operands[0].low >= 0 else ANY


def _max(operands: _Operands) -> Interval:
    found = [operands[position] for position in range(len(operands.node.input))]
    return Interval(max(item.low for item in found), max(item.high for item in found))


def _min(operands: _Operands) -> Interval:
    found = [operands[position] for position in range(len(operands.node.input))]
    return Interval(min(item.low for item in found), min(item.high for item in found))


def _clip(operands: _Operands) -> Interval:
    """min(max(x, lowest), highest); the bounds are attributes below opset 11."""
    found = operands[0]
    lowest = _clip_bound(operands, "min", 1, -math.inf)
    highest = _clip_bound(operands, "max", 2, math.inf)
    low = min(max(found.low, lowest.low), highest.low)
    return Interval(low, min(max(found.high, lowest.high), highest.high))


def _clip_bound(operands: _Operands, name: str, position: int, absent: float) -> Interval:
    found = attribute(operands.node, name)
    if found is not None:
        return Interval(found.f, found.f)
    given = position < len(operands.node.input) and operands.node.input[position]
    return operands[position] if given else Interval(absent, absent)


def _same_if_not_negative(operands: _Operands) -> Interval:
    """The identity for x >= 0, whatever the slope or alpha."""
    found = operands[0]
    return found if found.low >= 0 else ANY


def _same_or_zero(operands: _Operands) -> Interval:
    return operands[0].hull(ZERO)


def _cast(operands: _Operands) -> Interval:
    """To a floating type values are rounded; to an integer type they may wrap, so only that type bounds them."""
    target = integer(operands.node, "to", 0)
    return operands[0].widened() if target in _FLOATS else _of_type(target)


def _pad(operands: _Operands) -> Interval:
    mode = attribute(operands.node, "mode")
    if mode is not None and mode.s != b"constant":
        return operands[0]
    value = attribute(operands.node, "value")
    if value is not None:
        return operands[0].hull(Interval(value.f, value.f))
    given = len(operands.node.input) > 2 and operands.node.input[2]
    return operands[0].hull(operands[2] if given else ZERO)


def _resize(operands: _Operands) -> Interval:
    """Nearest and linear sampling stay within x; extrapolated elements are not counted on."""
    mode, transform = attribute(operands.node, "mode"), attribute(operands.node, "coordinate_transformation_mode")
    cubic = mode is not None and mode.s == b"cubic"
    crop = transform is not None and transform.s == b"tf_crop_and_resize"
    return ANY if cubic or crop else operands[0].widened()


def _where(operands: _Operands) -> Interval:
    return operands[1].hull(operands[2])


def _dequantize(operands: _Operands) -> Interval:
    """(q - zero point) * scale, where the zero point is the lowest value of an unsigned type."""
    zero = operands.scalar(2) if len(operands.node.input) > 2 else 0.0
    return NOT_NEGATIVE if zero == 0 and operands[0].low >= 0 and operands[1].low >= 0 else ANY


def _quantize(operands: _Operands) -> Interval:
    """Unsigned unless a zero point of a signed type says otherwise; without one, uint8."""
    if len(operands.node.input) < 3 or not operands.node.input[2]:
        return ANY if integer(operands.node, "output_dtype", 0) else Interval(0.0, 255.0)
    return _of_type(operands.values.types.get(operands.node.input[2]))


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
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "AveragePool": _average_with_padding,
    "ThresholdedRelu": _same_or_zero,
    "Relu": _relu,
    "Abs": _abs,
    "Neg": _neg,
    "Add": _add,
    "Sub": _sub,
    "Sum": _sum,
    "Mean": lambda operands: operands.hull().widened(),
    "Mul": _mul,
    "Div": _div,
    "Pow": _pow,
    "Max": _max,
    "Min": _min,
    "Clip": _clip,
    "Cast": _cast,
    "Concat": _Operands.hull,
    "Where": _where,
    "Pad": _pad,
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}
