"""One row per primitive op: its ONNX name and parameter names, what it computes, and how it rounds.

A row is callable: `Max(x, alpha * x)` is the term that applies it. `operands` are the names that the ONNX operator
specification gives to the inputs and attributes, in the order in which the term lists them; which of them is an
attribute at a given opset is `onnx.defs`' business (Clip's bounds changed from one to the other at opset 11).

Rounding, in units of u = half the distance from 1 to the next number (2^-24 in float32):

- 0: the result is one of the operands or a truth value, exactly;
- 1: correctly rounded (IEEE 754 basic operations);
- more: a kernel, whose error is at most `relative` u |result| + `absolute` u scale(operands). Upper bounds over ONNX
  Runtime 1.31.1's CPU kernels in float32 (x86-64, onnx 1.23.2), about twice what `tests/activation/test_kernels.py`
  measures; the measured value stands beside each row. The absolute part is for kernels that cancel or saturate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnxact.activation import error_function
from onnxact.activation.expr import Call, Operand, term
from onnxact.activation.selection import select

Array = NDArray[Any]
Trend = Literal["up", "down", "other"]


@dataclass(frozen=True)
class Primitive:
    """One op. `relative` and `absolute` are its rounding in u, `scale` is a function of the operands: see the module.

    `trend` is its monotonicity in every operand.
    """

    name: str
    operands: tuple[str, ...]
    meaning: Callable[..., Array]
    commutative: bool = False
    trend: Trend = "up"
    relative: float = 0.0
    absolute: float = 0.0
    scale: Callable[..., Any] = field(default=lambda *operands: 1.0)

    def __call__(self, *args: Operand) -> Call:
        """Return the term that applies this op."""
        return Call(self.name, tuple(term(arg) for arg in args))


erf, erfc = error_function.erf, error_function.erfc


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Array, alpha: Array) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _leaky_relu(x: Array, slope: Array) -> Array:
    return select(x < 0, slope * x, x)


def _clip(x: Array, low: Array, high: Array) -> Array:
    return np.minimum(np.maximum(x, low), high)


def _hard_sigmoid(x: Array, alpha: Array, beta: Array) -> Array:
    return _clip(alpha * x + beta, np.asarray(0, x.dtype), np.asarray(1, x.dtype))


def _gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        return np.asarray(x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x / 2 * (1 + erf(x / np.sqrt(2))))


def _normal(*operands: Array) -> Array:
    """Return zeros: evaluation, bounds and checks look at the function with its noise taken out."""
    return np.zeros_like(operands[0]) if operands else np.zeros(())


# Arithmetic: correctly rounded.
Add = Primitive("Add", ("A", "B"), np.add, commutative=True, relative=1)
Sum = Primitive("Sum", ("data_0", "data_1"), np.add, commutative=True, relative=1)
Sub = Primitive("Sub", ("A", "B"), np.subtract, trend="other", relative=1)
Mul = Primitive("Mul", ("A", "B"), np.multiply, commutative=True, trend="other", relative=1)
Div = Primitive("Div", ("A", "B"), np.divide, trend="other", relative=1)
Reciprocal = Primitive("Reciprocal", ("X",), lambda x: 1 / x, trend="other", relative=1)
Sqrt = Primitive("Sqrt", ("X",), np.sqrt, relative=1)
Pow = Primitive("Pow", ("X", "Y"), np.power, trend="other", relative=4)  # 2.0 for exponents 2 and 3, the only ones used

# Selection and sign: exact.
Neg = Primitive("Neg", ("X",), np.negative, trend="down")
Abs = Primitive("Abs", ("X",), np.abs, trend="other")
Sign = Primitive("Sign", ("input",), np.sign)
Max = Primitive("Max", ("data_0", "data_1"), np.maximum, commutative=True)
Min = Primitive("Min", ("data_0", "data_1"), np.minimum, commutative=True)
Clip = Primitive("Clip", ("input", "min", "max"), _clip)
Relu = Primitive("Relu", ("X",), lambda x: np.maximum(x, 0))
Where = Primitive("Where", ("condition", "X", "Y"), np.where, trend="other")
Less = Primitive("Less", ("A", "B"), np.less, trend="other")
Greater = Primitive("Greater", ("A", "B"), np.greater, trend="other")
LessOrEqual = Primitive("LessOrEqual", ("A", "B"), np.less_equal, trend="other")
GreaterOrEqual = Primitive("GreaterOrEqual", ("A", "B"), np.greater_equal, trend="other")
Equal = Primitive("Equal", ("A", "B"), np.equal, commutative=True, trend="other")
And = Primitive("And", ("A", "B"), np.logical_and, commutative=True, trend="other")
Cast = Primitive("Cast", ("input",), lambda condition: condition, trend="other")

# Conditions only; never written into a model.
Uniform = Primitive("Uniform", ("X",), lambda x: np.asarray(x.size > 0 and np.ptp(x) == 0), trend="other")

# Kernels. Measured: the largest error in u, relative to the result unless a magnitude is given.
Exp = Primitive("Exp", ("input",), np.exp, relative=2)  # 1.2
Log = Primitive("Log", ("input",), np.log, relative=6)  # 3.5
Tanh = Primitive("Tanh", ("input",), np.tanh, relative=8, absolute=1e-12)  # 4.6, but 200 where the result is subnormal
Erf = Primitive("Erf", ("input",), erf, relative=3)  # 1.3
Sigmoid = Primitive("Sigmoid", ("X",), _sigmoid, relative=2, absolute=4)  # 2.3 of 1: MLAS clamps at -18
Softplus = Primitive("Softplus", ("X",), _softplus, relative=8)  # 5.2
Softsign = Primitive("Softsign", ("input",), lambda x: x / (1 + np.abs(x)), relative=6)  # 4.0
Elu = Primitive(
    "Elu", ("X", "alpha"), _elu, trend="other", relative=4, absolute=2, scale=lambda x, a: np.abs(a)
)  # 1.0 of alpha: exp(x) - 1 cancels
Celu = Primitive(
    "Celu",
    ("X", "alpha"),
    lambda x, a: np.where(x < 0, a * np.expm1(np.minimum(x, 0) / a), x),
    trend="other",
    relative=4,
    absolute=2,
    scale=lambda x, a: np.abs(a),
)  # 1.0 of alpha
Selu = Primitive(
    "Selu",
    ("X", "alpha", "gamma"),
    lambda x, a, g: g * _elu(x, a),
    trend="other",
    relative=4,
    absolute=2,
    scale=lambda x, a, g: np.abs(a * g),
)  # 1.0 of alpha gamma
LeakyRelu = Primitive("LeakyRelu", ("X", "alpha"), _leaky_relu, trend="other", relative=1)
PRelu = Primitive("PRelu", ("X", "slope"), _leaky_relu, trend="other", relative=1)
ThresholdedRelu = Primitive(
    "ThresholdedRelu", ("X", "alpha"), lambda x, a: np.where(x > a, x, np.zeros_like(x)), trend="other"
)
HardSigmoid = Primitive(
    "HardSigmoid",
    ("X", "alpha", "beta"),
    _hard_sigmoid,
    trend="other",
    relative=2,
    absolute=1,
    scale=lambda x, a, b: 1 + np.abs(b),
)  # 0.25 of 1: rounding of alpha x, at most 1 + |beta| where the result is inside (0, 1)
HardSwish = Primitive(
    "HardSwish",
    ("X",),
    lambda x: x * _clip(x / 6 + 0.5, np.zeros(()), np.ones(())),
    trend="other",
    relative=2,
    absolute=2,
    scale=np.abs,
)  # 0.5 of x
Swish = Primitive(
    "Swish",
    ("X", "alpha"),
    lambda x, b: x * _sigmoid(b * x),
    trend="other",
    relative=3,
    absolute=4,
    scale=lambda x, b: np.abs(x),
)  # 2.3 of x: Sigmoid's absolute error
Mish = Primitive(
    "Mish", ("X",), lambda x: x * np.tanh(_softplus(x)), trend="other", relative=16, absolute=1e-12, scale=np.abs
)  # 8.2
Gelu = Primitive(
    "Gelu", ("X", "approximate"), _gelu, trend="other", relative=4, absolute=4, scale=lambda x, approximate: np.abs(x)
)  # 0.5 of x for erf, 2.0 of x for tanh
RandomNormal = Primitive("RandomNormal", ("mean", "scale"), _normal, trend="other")
RandomNormalLike = Primitive("RandomNormalLike", ("input", "mean", "scale"), _normal, trend="other")

PRIMITIVES: dict[str, Primitive] = {row.name: row for row in list(globals().values()) if isinstance(row, Primitive)}
