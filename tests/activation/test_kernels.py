"""Measures ONNX Runtime's CPU kernels in float32 against float64 and mpmath: the numbers in primitives.py hold.

The error of a kernel is bounded by  relative u |f(x)| + absolute u scale(x)  (+ one subnormal, times the scale).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import Call, Literal, varies, x
from onnxact.activation.numeric import fold
from onnxact.activation.primitives import (
    PRIMITIVES,
    Array,
    Celu,
    Div,
    Elu,
    Erf,
    Exp,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Log,
    Mish,
    Mul,
    Pow,
    PRelu,
    Reciprocal,
    Selu,
    Sigmoid,
    Softplus,
    Softsign,
    Sqrt,
    Swish,
    Tanh,
    erf,
)
from tests.activation.cases import all_patterns
from tests.activation.runtime import run
from tests.activation.test_references import MEANING

U = 2.0**-24
SUBNORMAL = 2.0**-149
LARGEST = float(np.finfo(np.float32).max)


def _float32(value: float) -> float:
    return float(np.float32(value))


def _reference(name: str, **parameters: float) -> Callable[[Array], Array]:
    values = {key: np.float64(value) for key, value in parameters.items()}
    return lambda at: np.asarray(ACTIVATIONS[name].reference(at, **values))


class Kernel(NamedTuple):
    """A call of one op, and the same function in float64."""

    call: Call
    true: Callable[[Array], Array]


KERNELS = [
    Kernel(Exp(x), np.exp),
    Kernel(Log(x), np.log),
    Kernel(Sqrt(x), np.sqrt),
    Kernel(Reciprocal(x), lambda at: 1 / at),
    Kernel(Div(x, 3.0), lambda at: at / 3),
    Kernel(Mul(x, 3.0), lambda at: at * 3),
    Kernel(Pow(x, 2.0), lambda at: at**2),
    Kernel(Pow(x, 3.0), lambda at: at**3),
    Kernel(Tanh(x), np.tanh),
    Kernel(Erf(x), erf),
    Kernel(Sigmoid(x), _reference("sigmoid")),
    Kernel(Softplus(x), _reference("softplus", beta=1.0, threshold=float("inf"))),
    Kernel(Softsign(x), _reference("softsign")),
    Kernel(HardSwish(x), _reference("hard_swish")),
    Kernel(Mish(x), _reference("mish")),
    Kernel(Gelu(x, "none"), _reference("gelu")),
    Kernel(Gelu(x, "tanh"), _reference("gelu_tanh")),
    *(Kernel(LeakyRelu(x, a), _reference("leaky_relu", alpha=a)) for a in (_float32(0.2), -1.5)),
    *(Kernel(PRelu(x, a), _reference("prelu", slope=a)) for a in (_float32(0.2), -1.5)),
    *(Kernel(Elu(x, a), _reference("elu", alpha=a)) for a in (1.0, 10.0, _float32(0.01), -1.5)),
    *(Kernel(Celu(x, a), _reference("celu", alpha=a)) for a in (1.0, 10.0, 0.25)),
    *(
        Kernel(Selu(x, a, g), _reference("selu", alpha=a, gamma=g))
        for a, g in ((_float32(1.6732632), _float32(1.050701)), (10.0, 0.5))
    ),
    *(
        Kernel(HardSigmoid(x, a, b), _reference("hard_sigmoid", alpha=a, beta=b))
        for a, b in ((_float32(0.2), 0.5), (_float32(1 / 6), 0.5), (-1.0, 20.0))
    ),
    *(Kernel(Swish(x, b), _reference("swish", beta=b)) for b in (1.0, _float32(1.702), -0.5)),
]


def identity(kernel: Kernel) -> str:
    values = [arg.value for arg in kernel.call.args if isinstance(arg, Literal)]
    return "-".join([kernel.call.op, *(v if isinstance(v, str) else f"{v:.3g}" for v in values)])


def points() -> Array:
    """Return finite float32 numbers: every binade, and densely where the functions bend or saturate."""
    dense = [np.linspace(-r, r, 40_001).astype(np.float32) for r in (1.0, 12.0, 110.0)]
    values = np.concatenate([all_patterns("float32", 60_000), *dense])
    return np.asarray(values[np.isfinite(values)])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kernel", [pytest.param(kernel, id=identity(kernel)) for kernel in KERNELS])
def test_kernels_are_as_accurate_as_their_row_says(kernel: Kernel) -> None:
    row, at = PRIMITIVES[kernel.call.op], points()
    got = run(kernel.call, at, {}).astype(np.float64)
    true = np.asarray(kernel.true(at.astype(np.float64)), np.float64)
    scale = np.asarray(row.scale(*operands(kernel.call, at)), np.float64)
    allowed = U * (row.relative * np.abs(true) + row.absolute * scale) + SUBNORMAL * np.maximum(scale, 1)
    wrong = (np.abs(got - true) > allowed) & (np.abs(true) <= LARGEST)
    assert not wrong.any(), np.stack([at, got, true, np.abs(got - true) / U])[:, wrong].T[:5]


def operands(call: Call, at: Array) -> list[Any]:
    """Return the operands as numbers, x included."""
    return [at.astype(np.float64) if varies(arg) else fold(arg, {}) for arg in call.args]


ELEMENTARY: dict[str, Callable[[Any], Any]] = {
    "Exp": mpmath.exp,
    "Log": mpmath.log,
    "Tanh": mpmath.tanh,
    "Erf": mpmath.erf,
    **{op: MEANING[name] for op, name in (("Sigmoid", "sigmoid"), ("Softsign", "softsign"), ("Mish", "mish"))},
    "Softplus": lambda v: mpmath.log1p(mpmath.exp(v)),
}


@pytest.mark.parametrize("op", ELEMENTARY)
def test_what_the_kernels_are_measured_against_agrees_with_mpmath(op: str) -> None:
    """Within 1e-13, a millionth of u in float32, so that it does not show in a measurement."""
    true = next(kernel.true for kernel in KERNELS if kernel.call.op == op)
    at = (
        np.geomspace(1e-30, 80, 60)
        if op == "Log"
        else np.concatenate([-np.geomspace(1e-30, 80, 60), np.geomspace(1e-30, 80, 60)])
    )
    with mpmath.workdps(90):
        expected = np.array([float(ELEMENTARY[op](mpf(float(v)))) for v in at])
    np.testing.assert_allclose(true(at), expected, rtol=1e-13, atol=0)


def test_every_kernel_is_measured() -> None:
    """A row with a rounding of its own is either correctly rounded arithmetic or measured here."""
    kernels = {kernel.call.op for kernel in KERNELS}
    assert {name for name, row in PRIMITIVES.items() if row.relative > 1 or row.absolute} <= kernels
