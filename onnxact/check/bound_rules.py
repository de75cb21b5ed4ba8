"""The interval of an op's output from those of its inputs: the table that bounds walks.

Relu: [max(low, 0), max(high, 0)]; Sum: the sum of the ends; Conv with no negative weight keeps the sign of x.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce

from onnx import TensorProto

from onnxact.check.bound_activations import ACTIVATION_RULES
from onnxact.check.bound_operands import (
    Operands,
    Rule,
    fixed,
    number,
    of_constant,
    of_type,
    same,
    same_or_zero,
    sign_kept,
)
from onnxact.check.graph import attribute, integer
from onnxact.check.interval import ANY, NOT_NEGATIVE, UNIT, ZERO, Interval

_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_SIGNED_UNIT = Interval(-1.0, 1.0)


def _average(operands: Operands) -> Interval:
    return operands[0].widened()


def _average_with_padding(operands: Operands) -> Interval:
    return operands[0].hull(ZERO).widened()


def _hull(operands: Operands) -> Interval:
    return reduce(Interval.hull, operands.every())


def _constant_of_shape(operands: Operands) -> Interval:
    value = attribute(operands.node, "value")
    return ZERO if value is None else of_constant(value.t)


def _sub(operands: Operands) -> Interval:
    return operands[0].plus(operands[1].negated())


def _mul(operands: Operands) -> Interval:
    square = operands.node.input[0] == operands.node.input[1]
    return NOT_NEGATIVE if square else operands[0].times(operands[1])


def _div(operands: Operands) -> Interval:
    divisor = operands[1].reciprocal()
    return operands[0].times(divisor)


def _pow(operands: Operands) -> Interval:
    exponent = operands[1]
    even = exponent.low == exponent.high and exponent.low % 2 == 0
    return NOT_NEGATIVE if even or operands[0].low >= 0 else ANY


def _max(operands: Operands) -> Interval:
    return reduce(lambda a, b: Interval(max(a.low, b.low), max(a.high, b.high)), operands.every())


def _min(operands: Operands) -> Interval:
    return reduce(lambda a, b: Interval(min(a.low, b.low), min(a.high, b.high)), operands.every())


def _weighted_sum(operands: Operands) -> Interval:
    """The sign of x * w + b, summed over any number of products: Conv, ConvTranspose, MatMul."""
    products = operands[0].times(operands[1]).sign()
    bias = operands[2].sign() if operands.given(2) else ZERO
    return products.plus(bias).sign()


def _gemm(operands: Operands) -> Interval:
    positive = number(operands, "alpha", 1.0) >= 0 and number(operands, "beta", 1.0) >= 0
    return _weighted_sum(operands) if positive else ANY


def _batch_normalization(operands: Operands) -> Interval:
    """(x - mean) * scale / sqrt(variance + epsilon) + bias, with the extremes over all channels."""
    variance = operands[4]
    if variance.low < 0 or integer(operands.node, "training_mode", 0):
        return ANY
    epsilon = number(operands, "epsilon", 1e-5)
    deviation = Interval(math.sqrt(variance.low + epsilon), math.sqrt(variance.high + epsilon))
    factor = operands[1].times(deviation.reciprocal())
    return operands[0].plus(operands[3].negated()).times(factor).plus(operands[2])


def _cast(operands: Operands) -> Interval:
    """To a floating type values are rounded; to an integer type they may wrap, so only that type bounds them."""
    target = integer(operands.node, "to", 0)
    return operands[0].widened() if target in _FLOATS else of_type(target)


def _pad(operands: Operands) -> Interval:
    """The value is an attribute below opset 11."""
    mode = attribute(operands.node, "mode")
    if mode is not None and mode.s != b"constant":
        return operands[0]
    if operands.given(2):
        return operands[0].hull(operands[2])
    value = number(operands, "value", 0.0)
    return operands[0].hull(Interval(value, value))


def _resize(operands: Operands) -> Interval:
    """Nearest and linear sampling stay within x; cubic and extrapolation do not."""
    mode, transform = (attribute(operands.node, name) for name in ("mode", "coordinate_transformation_mode"))
    cubic = mode is not None and mode.s == b"cubic"
    crop = transform is not None and transform.s == b"tf_crop_and_resize"
    return ANY if cubic or crop else operands[0].widened()


def _where(operands: Operands) -> Interval:
    return operands[1].hull(operands[2])


def _dequantize(operands: Operands) -> Interval:
    """(q - zero point) * scale, where q is unsigned and the zero point 0."""
    zero = operands[2] if operands.given(2) else ZERO
    return NOT_NEGATIVE if zero == ZERO and operands[0].low >= 0 and operands[1].low >= 0 else ANY


def _quantize(operands: Operands) -> Interval:
    """The zero point has the type of the result; without one and without output_dtype that is uint8."""
    if operands.given(2):
        return of_type(operands.elem_type(2))
    return ANY if integer(operands.node, "output_dtype", 0) else Interval(0.0, 255.0)


def _scattered(operands: Operands) -> Interval:
    """x with updates in it; where both are combined, their sign."""
    reduction = attribute(operands.node, "reduction")
    both = operands[0].hull(operands[2])
    if reduction is None or reduction.s in {b"none", b"max", b"min"}:
        return both
    return NOT_NEGATIVE if both.low >= 0 else ANY


def _uniform(operands: Operands) -> Interval:
    low, high = number(operands, "low", 0.0), number(operands, "high", 1.0)
    return Interval(min(low, high), max(low, high)).widened()


def _from_to(operands: Operands) -> Interval:
    return operands[0].hull(operands[1]).widened()


def _einsum(operands: Operands) -> Interval:
    return reduce(Interval.times, operands.every()).sign()


def _product(operands: Operands) -> Interval:
    return NOT_NEGATIVE if operands[0].low >= 0 else ANY


def _grid_sample(operands: Operands) -> Interval:
    """Outside x it reads zeros, the border or a reflection; cubic sampling overshoots."""
    mode = attribute(operands.node, "mode")
    cubic = mode is not None and b"cubic" in mode.s
    return ANY if cubic else operands[0].hull(ZERO).widened()


def _cast_like(operands: Operands) -> Interval:
    target = operands.elem_type(1)
    return operands[0].widened() if target in _FLOATS else of_type(target)


RULES: Mapping[str, Rule] = {
    **ACTIVATION_RULES,
    **dict.fromkeys(("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"), fixed(UNIT)),
    **dict.fromkeys(("And", "Or", "Xor", "Not", "IsNaN", "IsInf"), fixed(UNIT)),
    **dict.fromkeys(("Exp", "Sqrt", "LpPool", "GlobalLpPool"), fixed(NOT_NEGATIVE)),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare"), fixed(NOT_NEGATIVE)),
    **dict.fromkeys(("Shape", "Size", "NonZero", "ArgMax", "ArgMin"), fixed(NOT_NEGATIVE)),
    **dict.fromkeys(("Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"), same),
    **dict.fromkeys(("Slice", "Gather", "GatherElements", "GatherND", "DepthToSpace", "SpaceToDepth", "Split"), same),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "ReverseSequence"), same),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _average),
    **dict.fromkeys(("Dropout", "ReduceSum", "CumSum", "Sign", "Ceil", "Floor", "Round"), sign_kept),
    **dict.fromkeys(("Atan", "Asinh", "Sinh", "LRN", "LpNormalization", "Col2Im"), sign_kept),
    **dict.fromkeys(("Sin", "Cos"), fixed(_SIGNED_UNIT.widened())),
    **dict.fromkeys(("EyeLike", "Bernoulli"), fixed(UNIT)),
    **dict.fromkeys(("RandomUniform", "RandomUniformLike"), _uniform),
    **dict.fromkeys(("ScatterElements", "ScatterND", "Scatter"), _scattered),
    **dict.fromkeys(("TopK", "Compress", "Unique"), same),
    **dict.fromkeys(("Trilu", "RoiAlign", "MaxRoiPool", "MaxUnpool"), same_or_zero),
    "Acos": fixed(Interval(0.0, 3.15)),
    "Cosh": fixed(NOT_NEGATIVE),
    "Multinomial": fixed(NOT_NEGATIVE),
    "DynamicQuantizeLinear": fixed(Interval(0.0, 255.0)),
    "OneHot": lambda operands: operands[2],
    "Range": _from_to,
    "Einsum": _einsum,
    "ReduceProd": _product,
    "GridSample": _grid_sample,
    "CastLike": _cast_like,
    **dict.fromkeys(("Conv", "ConvTranspose", "MatMul"), _weighted_sum),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "AveragePool": _average_with_padding,
    "ConstantOfShape": _constant_of_shape,
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
    "Concat": _hull,
    "Where": _where,
    "Gemm": _gemm,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Pad": _pad,
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}
