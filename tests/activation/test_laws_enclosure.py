"""Law: what a form computes lies in its enclosure, by NumPy in every dtype and by ONNX Runtime; and that is narrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import Expr, x
from onnxact.activation.forms import find_form
from onnxact.activation.numeric import FLOATS, Values, evaluate
from onnxact.activation.primitives import PRIMITIVES, Abs, Array, LeakyRelu, Max, Min, Primitive, Relu, Where
from onnxact.activation.rounding import enclosure, unit_roundoff
from tests.activation.cases import DTYPES, EVERY_INSTANCE, Instance, all_patterns, signed_log
from tests.activation.runtime import NoKernel, run

DERIVED = {
    "softplus": ("stable[abs=relu]", "stable[abs=max,neg=mul]"),
    "mish": ("tanh-softplus[softplus=stable,tanh=sigmoid]",),
    "elu": ("where[exp=op]",),
    "swish": ("mul-sigmoid[sigmoid=tanh]",),
}


def outside(expr: Expr, values: Array, points: Array, parameters: Values) -> Array:
    """Return the finite points at which a finite value lies outside the enclosure, with the interval beside it."""
    with np.errstate(over="ignore"):
        found = enclosure(expr, points.astype(np.float64), parameters, points.dtype)
    got = values.astype(np.float64)
    missed = np.isfinite(got) & ~((found.low <= got) & (got <= found.high))
    return np.stack([points.astype(np.float64), found.low, got, found.high])[:, missed].T[:5]


def points_of(dtype: str) -> Array:
    values = all_patterns(dtype, 4000) if dtype in ("float32", "float64") else all_patterns(dtype)[::7]
    with np.errstate(invalid="ignore"):
        return np.concatenate([values[np.isfinite(values)], signed_log(dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("instance", EVERY_INSTANCE)
def test_what_numpy_computes_lies_in_the_enclosure(instance: Instance, dtype: str) -> None:
    points = points_of(dtype)
    computed = evaluate(instance.form.expr, points, instance.parameters)
    assert outside(instance.form.expr, computed, points, instance.parameters).size == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("instance", [case for case in EVERY_INSTANCE if "-shape" not in str(case.id)])
def test_what_onnx_runtime_computes_lies_in_the_enclosure(instance: Instance, dtype: str) -> None:
    points = points_of(dtype)
    try:
        computed = run(instance.form.expr, points, instance.parameters)
    except NoKernel as reason:
        pytest.skip(str(reason))
    assert outside(instance.form.expr, computed, points, instance.parameters).size == 0
