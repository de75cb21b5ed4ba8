"""References against oracles that share no code with them: mpmath, torch, ONNX's own bodies and evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import onnx.inliner
import pytest
import torch
from mpmath import mpf
from onnx.helper import make_tensor_value_info
from onnx.reference import ReferenceEvaluator

from onnxact.activation.catalog import ACTIVATIONS, Activation
from onnxact.activation.numeric import holds
from onnxact.activation.primitives import Array
from tests.activation.cases import parameters_of, wanted
from tests.activation.runtime import model_of

INF = float("inf")


def _sigmoid(t: Any) -> Any:
    return 1 / (1 + mpmath.exp(-t))


def _elu(x: Any, alpha: Any) -> Any:
    return x if x >= 0 else alpha * mpmath.expm1(x)


def _clamp(x: Any, min: Any, max: Any) -> Any:
    return sorted((min, x, max))[1]


MEANING: dict[str, Callable[..., Any]] = {
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: _clamp(x, 0, 6),
    "clip": _clamp,
    "leaky_relu": lambda x, alpha: x if x >= 0 else alpha * x,
    "prelu": lambda x, slope: x if x >= 0 else slope * x,
    "thresholded_relu": lambda x, alpha: x if x > alpha else 0,
    "elu": _elu,
    "celu": lambda x, alpha: max(x, 0) + min(0, alpha * mpmath.expm1(x / alpha)),
    "selu": lambda x, alpha, gamma: gamma * _elu(x, alpha),
    "softplus": lambda x, beta, threshold: x if beta * x > threshold else mpmath.log1p(mpmath.exp(beta * x)) / beta,
    "softsign": lambda x: x / (1 + abs(x)),
    "sigmoid": _sigmoid,
    "tanh": mpmath.tanh,
    "hard_sigmoid": lambda x, alpha, beta: _clamp(alpha * x + beta, 0, 1),
    "hard_swish": lambda x: x * _clamp(x / 6 + mpf(1) / 2, 0, 1),
    "log_sigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
    "swish": lambda x, beta: x * _sigmoid(beta * x),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpf(0.044715) * x**3))),
    "noisy_relu": lambda x, mean, scale: max(x, 0),
}
CANCELS = {"hard_sigmoid": 1e-16, "hard_swish": 1e-15}
"""Piecewise-linear functions with an offset: absolute error near their zero."""

SETTINGS = [
    pytest.param(activation, values, id=f"{activation.name}-{index}")
    for activation in ACTIVATIONS.values()
    for index, values in enumerate(parameters_of(activation))
]


def points() -> Array:
    spread = np.concatenate([np.geomspace(1e-30, 1e-3, 10), np.geomspace(2e-3, 700, 35), [1e3, 1e10, 1e30]])
    return np.concatenate([-spread, [0.0], spread, [3.0, -3.0, 6.0, 1.0, -1.0]])


def refer(activation: Activation, at: Array, values: dict[str, float]) -> Array:
    with np.errstate(all="ignore"):
        return activation.reference(at, **{name: np.float64(value) for name, value in values.items()})


@pytest.mark.parametrize(("activation", "values"), SETTINGS)
def test_references_agree_with_mpmath(activation: Activation, values: dict[str, float]) -> None:
    """Relative error <= 1e-12 in float64 at signed points from 1e-30 to 1e30; mpmath has digits enough to be exact."""
    at = points()
    exact = {name: mpf(value) for name, value in values.items()}
    with mpmath.workdps(400):
        true = np.array([float(MEANING[activation.name](mpf(float(v)), **exact)) for v in at])
    error = np.abs(refer(activation, at, values) - true)
    bad = error > 1e-12 * np.abs(true) + CANCELS.get(activation.name, 1e-300)
    assert not bad.any(), np.stack([at, refer(activation, at, values), true])[:, bad]


@pytest.mark.parametrize(("activation", "values"), SETTINGS)
def test_references_have_their_limits_at_the_special_points(activation: Activation, values: dict[str, float]) -> None:
    """f(+-inf) is the limit of f, f(NaN) is NaN, except where 0 meets infinity and where NaN is not > alpha."""
    far = refer(activation, np.array([-1e300, 1e300]), values)
    limit = np.where(np.abs(far) > 1e200, np.copysign(INF, far), far)
    at_infinity = refer(activation, np.array([-INF, INF]), values)
    if activation.name in ("leaky_relu", "prelu", "swish") and 0.0 in values.values():
        assert np.isnan(at_infinity[0])
        limit[np.isnan(at_infinity)] = np.nan
    np.testing.assert_array_equal(at_infinity, limit)
    at_nan = refer(activation, np.array([np.nan]), values)[0]
    assert at_nan == 0 if activation.name == "thresholded_relu" else np.isnan(at_nan)


TORCH: dict[str, Callable[..., dict[str, Any]]] = {
    "clip": lambda min, max: {"min_val": min, "max_val": max},
    "leaky_relu": lambda alpha: {"negative_slope": alpha},
    "prelu": lambda slope: {"init": slope},
    "thresholded_relu": lambda alpha: {"threshold": alpha, "value": 0.0},
    "elu": lambda alpha: {"alpha": alpha},
    "celu": lambda alpha: {"alpha": alpha},
    "softplus": lambda beta, threshold: {"beta": beta, "threshold": threshold},
    "gelu_tanh": lambda: {"approximate": "tanh"},
}
TORCH_ONLY = {
    "selu": {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805},
    "hard_sigmoid": {"alpha": 1 / 6, "beta": 0.5},
    "swish": {"beta": 1.0},
}
"""Classes whose parameters are fixed."""


def torch_settings() -> list[Any]:
    fixed = [(ACTIVATIONS[name], values) for name, values in TORCH_ONLY.items()]
    free = [
        (a, values)
        for a in ACTIVATIONS.values()
        if a.torch and a.name not in TORCH_ONLY
        for values in parameters_of(a)
        if not (a.name == "clip" and values["min"] >= values["max"])
    ]
    return [pytest.param(a, values, id=f"{a.name}-{index}") for index, (a, values) in enumerate(fixed + free)]


@pytest.mark.parametrize(("activation", "values"), torch_settings())
def test_references_agree_with_torch(activation: Activation, values: dict[str, float]) -> None:
    """In float64. torch's own forms cancel, hence the absolute part; its Softplus overflows without a threshold."""
    at = points()
    at = at[np.abs(at) < 280] if activation.name == "softplus" else at
    arguments = TORCH[activation.name](**values) if activation.name in TORCH else {}
    module: torch.nn.Module = getattr(torch.nn, activation.torch)(**arguments)
    with torch.no_grad():
        module.to(torch.float64).eval()
        for weight in module.parameters():
            weight.fill_(values["slope"])
        found = module(torch.from_numpy(at)).numpy()
    np.testing.assert_allclose(refer(activation, at, values), found, rtol=1e-12, atol=1e-14)


NATIVE = [case for case in SETTINGS if case.values[0].native is not None]  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("inlined", [False, True], ids=["evaluator", "body"])
@pytest.mark.parametrize(("activation", "values"), NATIVE)
def test_references_agree_with_onnx(activation: Activation, values: dict[str, float], inlined: bool) -> None:
    """In float32 on [-20, 20], by onnx's evaluator of the op and of its function body, where it has one."""
    form = activation.forms["op"]
    at = np.linspace(-20, 20, 401).astype(np.float32)
    if not holds(form.when, values):
        pytest.skip("the op does not take these parameters")
    model = model_of(form.expr, values, "float32")
    if inlined:
        op = model.graph.node[0].op_type
        model.graph.input.extend(make_tensor_value_info(c.name, c.data_type, c.dims) for c in model.graph.initializer)
        model = onnx.inliner.inline_selected_functions(model, [("", op)], inline_schema_functions=True)
        if [node.op_type for node in model.graph.node] == [op]:
            pytest.skip(f"{op} has no body")
    found = np.asarray(ReferenceEvaluator(model).run(None, {"x": at}))[0]
    np.testing.assert_allclose(found, wanted(activation, at, values), rtol=1e-5, atol=5e-6)
