"""The instances over which the laws run: activation x form x parameters, and the points of a dtype."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS, SPECIAL_INPUTS, Activation, Form
from onnxact.activation.numeric import FLOATS, Values, holds, rounded
from onnxact.activation.primitives import Array

INF = float("inf")
DTYPES = tuple(FLOATS)

PARAMETERS: dict[str, tuple[dict[str, float], ...]] = {
    "clip": tuple(
        {"min": low, "max": high}
        for low, high in (
            (-INF, INF), (-INF, 2.0), (-0.5, INF), (0.0, INF), (-1.0, 1.0), (0.0, 6.0), (0.0, 0.1), (1.0, 1.0),
            (-3.0, -2.0),
        )
    ),
    "leaky_relu": tuple({"alpha": a} for a in (0.01, 0.2, 1.0, 0.0, -0.3, 1.5, 1e-6)),
    "prelu": tuple({"slope": a} for a in (0.25, 1.0, 0.0, -0.3, 1.5)),
    "thresholded_relu": tuple({"alpha": a} for a in (1.0, 0.0, 0.1, -1.0)),
    "elu": tuple({"alpha": a} for a in (1.0, 0.3, 2.5, -0.7, 0.0)),
    "celu": tuple({"alpha": a} for a in (1.0, 0.3, 2.5)),
    "selu": ({"alpha": 1.6732631921768188, "gamma": 1.0507010221481323}, {"alpha": 0.5, "gamma": 2.0}),
    "softplus": tuple(
        {"beta": beta, "threshold": threshold} for beta, threshold in ((1.0, INF), (1.0, 20.0), (2.5, INF), (0.3, 15.0))
    ),
    "hard_sigmoid": tuple(
        {"alpha": float(np.float32(a)), "beta": b} for a, b in ((0.2, 0.5), (1 / 6, 0.5), (0.7, 0.1), (-0.3, 0.25))
    ),
    "swish": tuple({"beta": b} for b in (1.0, 1.702, -0.5, 0.0)),
    "noisy_relu": ({"mean": 0.0, "scale": 0.0},),
}  # fmt: skip
"""Activation -> admissible parameters; the table's defaults where it is not listed."""


class Instance(NamedTuple):
    """A form with parameters for which it is the activation."""

    activation: Activation
    name: str
    form: Form
    parameters: Values

    def __str__(self) -> str:
        values = ",".join(f"{name}={value:.3g}" for name, value in self.parameters.items())
        return f"{self.activation.name}-{self.name}" + (f"({values})" if values else "")


def parameters_of(activation: Activation) -> tuple[dict[str, float], ...]:
    """Return the parameters to try, the defaults first."""
    own = PARAMETERS.get(activation.name, ())
    return own if activation.defaults in own else (activation.defaults, *own)


def instances() -> Iterator[Instance]:
    """Yield every form with every set of parameters for which it holds."""
    for activation in ACTIVATIONS.values():
        for name, form in activation.forms.items():
            for parameters in parameters_of(activation):
                if holds(form.when, parameters):
                    yield Instance(activation, name, form, parameters)


def every_form() -> list[Any]:
    """Return (activation, form name, form) of the whole table, for `parametrize`."""
    return [
        pytest.param(activation, name, form, id=f"{activation.name}-{name}")
        for activation in ACTIVATIONS.values()
        for name, form in activation.forms.items()
    ]


EVERY_INSTANCE = [pytest.param(instance, id=str(instance)) for instance in instances()]
EVERY_ACTIVATION = [pytest.param(activation, id=activation.name) for activation in ACTIVATIONS.values()]


def specials(dtype: str) -> Array:
    """Return the special inputs in the order of `SPECIAL_INPUTS`."""
    return np.array(list(SPECIAL_INPUTS.values())).astype(FLOATS[dtype])


@cache
def all_patterns(dtype: str, count: int = 300_000) -> Array:
    """Return every value of a 16-bit dtype, NaN included; of a wider one, `count` bit patterns spread over all binades.

    The patterns of the wider dtypes are one random draw from each of `count` equal ranges of the integers, so that each
    sign and exponent has its share, then both signs of the extremes: zero, subnormal, normal, largest, infinite.
    """
    kind = FLOATS[dtype]
    if kind.itemsize == 2:
        return np.arange(1 << 16, dtype=np.uint16).view(kind)
    width = 8 * kind.itemsize
    draws = np.random.default_rng(20).random(count)
    words = ((np.arange(count) + draws) / count * 2.0**width).astype(np.uint64)
    word = np.dtype(f"u{kind.itemsize}")
    limits = np.finfo(kind)
    edges = [0.0, limits.smallest_subnormal, limits.smallest_normal, 1.0, limits.max, INF]
    near = np.array([np.nextafter(e, t) for e in (1.0, 3.0, 6.0, 0.1) for t in (-INF, INF)])
    extra = np.array([*edges, *(-e for e in edges), np.nan, *near], np.float64).astype(kind)
    return np.concatenate([words.astype(word).view(kind), extra])


@cache
def signed_log(dtype: str, count: int = 1500) -> Array:
    """Return finite values of the dtype: signed, log-spaced over its whole range, and denser where functions bend."""
    kind = FLOATS[dtype]
    tiny, largest = (
        float(rounded(v, kind))
        for v in (2.0**-23 if dtype == "float16" else 1e-37, 6e4 if dtype == "float16" else 1e38)
    )
    spread = np.geomspace(tiny, largest, count)
    middle = np.linspace(0, 30, count)
    values = rounded(np.concatenate([spread, middle, -spread, -middle]), kind)
    return values[np.isfinite(values)]


def wanted(activation: Activation, x: Array, parameters: Values) -> Array:
    """Return the activation at `x` rounded once to the dtype of `x`, its parameters rounded to that dtype first."""
    fixed = {name: np.asarray(rounded(value, x.dtype), np.float64) for name, value in parameters.items()}
    with np.errstate(all="ignore"):
        return rounded(activation.reference(x.astype(np.float64), **fixed), x.dtype)
