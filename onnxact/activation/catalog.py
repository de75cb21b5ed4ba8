"""THE table: every activation with its parameters, its meaning over the reals, and the forms that compute it.

A form is one line, `"name": Form(term, ...)`. The form called "op" is the native ONNX op. The rest of onnxact is
derived from these lines: nodes, patterns, evaluation, rounding bounds, documentation, tests. Where an op inside a form
is itself in the table (Softplus inside Mish) or has a row in `REWRITES` (Abs, Neg, Sub), it can be computed by any of
its own forms in turn; such a form is written `tanh-softplus[softplus=stable]`.

Accuracy is said relative to the activation with its parameters rounded to the tensor's dtype, which is what ONNX's own
function bodies do (CastLike). `exact` is the condition on the parameters under which a form returns, for every input,
the bits that the reference rounds to; `special` lists the inputs at which, for some parameters, it does not even so,
and `signed_zero` says that a zero may have the other sign. All other forms stay within `rounding.enclosure`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxact.activation.expr import TRUE, Call, Expr, Parameter, Variable, equals, x, y
from onnxact.activation.primitives import (
    Abs,
    Array,
    Cast,
    Celu,
    Clip,
    Elu,
    Erf,
    Exp,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Less,
    Log,
    Max,
    Min,
    Mish,
    Pow,
    PRelu,
    RandomNormal,
    RandomNormalLike,
    Reciprocal,
    Relu,
    Selu,
    Sigmoid,
    Sign,
    Softplus,
    Softsign,
    Sum,
    Swish,
    Tanh,
    ThresholdedRelu,
    Uniform,
    Where,
    erfc,
)
from onnxact.activation.selection import select

FALSE = equals(0, 1)
INF = math.inf
NAN = math.nan


@dataclass(frozen=True)
class Form:
    """One way to compute an activation.

    `when`: the condition on the parameters under which the term is the activation at all. `exact`: see the module.
    `special`: input name (a key of `SPECIAL_INPUTS`) -> what comes out instead, for some parameters, where the
    activation gives another value. Where `exact` depends on the parameters, `special` and `signed_zero` speak of those
    for which it does not hold. `emitted`: whether it is ever written into a model, or only recognised. `error`: how far
    its term is from the activation at most, over all real x and without rounding; 0 where it is the same function.
    `overflows`: a step on the way is too large for the dtype at some finite x, for some parameters, so that NaN or an
    infinity comes out where the activation is a number.
    """

    expr: Expr
    when: Expr = TRUE
    exact: Expr = FALSE
    special: Mapping[str, float] = field(default_factory=dict)
    signed_zero: bool = False
    emitted: bool = True
    error: float = 0.0
    overflows: bool = False

    def __hash__(self) -> int:
        return hash(self.expr)


@dataclass(frozen=True)
class Param:
    """A parameter with its default. ONNX's attribute defaults are float32 numbers and are given as such."""

    name: str
    default: float
    tensor: bool = False

    @property
    def term(self) -> Parameter:
        """The parameter as it stands in a form."""
        return Parameter(self.name)


@dataclass(frozen=True)
class Activation:
    """One row of the table.

    `reference(x, **parameters)`: the meaning, evaluated by NumPy in float64; it is none of the forms.
    `kinks`: where its slope jumps, as terms of the parameters. `torch`: the class in torch.nn and how its arguments
    follow from the parameters.
    """

    name: str
    params: tuple[Param, ...]
    reference: Callable[..., Array]
    forms: Mapping[str, Form]
    source: str
    torch: str = ""
    kinks: tuple[Expr | float, ...] = ()

    @property
    def native(self) -> Call | None:
        """The native op applied to x and the parameters, or None where ONNX has no such op."""
        form = self.forms.get("op")
        return form.expr if form and isinstance(form.expr, Call) else None

    @property
    def defaults(self) -> dict[str, float]:
        """Parameter name -> ONNX's default."""
        return {param.name: param.default for param in self.params}

    @property
    def spelled(self) -> str:
        """The name as the command line writes it: leaky-relu."""
        return self.name.replace("_", "-")


SPECIAL_INPUTS = {"nan": NAN, "+inf": INF, "-inf": -INF, "+0": 0.0, "-0": -0.0}

alpha, beta, gamma, slope = (Parameter(name) for name in ("alpha", "beta", "gamma", "slope"))
low, high, threshold, mean, scale = (Parameter(name) for name in ("min", "max", "threshold", "mean", "scale"))

SQRT_2 = math.sqrt(2)
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def _float32(value: float) -> float:
    return float(np.float32(value))


def _slope_forms(a: Expr) -> dict[str, Form]:
    """x where x >= 0, a * x elsewhere; `a` is a number or a tensor of slopes."""
    return {
        "mul-max": Form(Max(x, a * x), when=a <= 1, exact=a > 0, special={"+inf": NAN}, signed_zero=True),
        "mul-min": Form(Min(x, a * x), when=a >= 1, exact=TRUE),
        "where": Form(Where(x < 0, a * x, x), exact=TRUE, signed_zero=True),
        "relu-min": Form(Relu(x) + a * Min(x, 0), exact=TRUE, signed_zero=True),
        "relu-neg": Form(Relu(x) - a * Relu(-x), exact=TRUE, signed_zero=True),
        "relu-neg-add": Form(Relu(x) + -a * Relu(-x), exact=TRUE, signed_zero=True),
        "mul-abs-add": Form(
            (1 + a) / 2 * x + (1 - a) / 2 * Abs(x),
            special={"-inf": NAN, "+inf": NAN},
            signed_zero=True,
            overflows=True,
        ),
        "relu-affine": Form(a * x + (1 - a) * Relu(x), special={"+inf": NAN}, signed_zero=True, overflows=True),
    }


FIXED_SLOPE = 26 / 256
"""The slope of the LeakyRelu unit of AMD's DPUCZDX8G (Xilinx/Vitis-AI issue 317)."""


def fixed_slope(unit: float) -> Form:
    """A slope `alpha` by a LeakyRelu whose own slope is `unit`: k LeakyRelu(x, unit) + (1 - k) x, unit != 1."""
    if unit == 1 or not math.isfinite(unit):
        raise ValueError(unit)
    k = (1 - alpha) / (1 - unit)
    term = k * LeakyRelu(x, unit) + (1 - k) * x
    return Form(term, special={"-inf": NAN, "+inf": NAN}, signed_zero=True, overflows=True)


FAMILIES: dict[str, tuple[str, Callable[[float], Form]]] = {"fixed-slope": ("slope", fixed_slope)}
"""Forms with a number of their own: name -> what the number is called, number -> form. `fixed-slope[slope=0.25]`."""


def _softplus(x: Array, beta: Array, threshold: Array) -> Array:
    return np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


def _logistic(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e))


def _gated(x: Array, gate: Array) -> Array:
    """Return x * gate with the limit -0, not NaN, where the gate closes faster than x grows."""
    return np.where(np.isinf(x) & (gate == 0), np.copysign(0.0, x), x * gate)


def _mish(x: Array) -> Array:
    # tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2) with e = exp(x), in powers of exp(-|x|)
    e = np.exp(-np.abs(x))
    return _gated(x, np.where(x < 0, (e * e + 2 * e) / (e * e + 2 * e + 2), (1 + 2 * e) / (1 + 2 * e + 2 * e * e)))


def _decay(m: Expr) -> Expr:
    """exp(-m)."""
    return Exp(-m)


def _sigmoid_decay(m: Expr) -> Expr:
    """exp(-m) for m >= 0: sigmoid(-m) / sigmoid(m)."""
    return Sigmoid(-m) / Sigmoid(m)


def _gelu_polynomial(decay: Callable[[Expr], Expr]) -> Form:
    """(x + |x| erf(|x| / sqrt(2))) / 2 with erf(z) = 1 - t (...) exp(-z^2) for z >= 0, |error| <= 1.5e-7.

    Abramowitz and Stegun 1964, formula 7.1.26.
    """
    z = Abs(x) / SQRT_2
    t = 1 / (1 + 0.3275911 * z)
    tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    erf = 1 - tail * decay(z * z)
    return Form(0.5 * (x + Abs(x) * erf), special={"-inf": NAN}, signed_zero=True, error=2.2e-7, overflows=True)


def _cubic(x: Variable) -> dict[str, Expr]:
    """The argument of GELU's tanh: sqrt(2/pi) (x + 0.044715 x^3), as frameworks write it."""
    return {
        "tanh-pow": SQRT_2_OVER_PI * (x + 0.044715 * Pow(x, 3)),
        "tanh-mul": SQRT_2_OVER_PI * (x + 0.044715 * (x * x * x)),
        "tanh-nested": SQRT_2_OVER_PI * (x * (1 + 0.044715 * (x * x))),
        "tanh-even": x * (SQRT_2_OVER_PI + SQRT_2_OVER_PI * 0.044715 * x * x),
    }


def _at_least(value: Expr, bound: Expr) -> Expr:
    """As the function body of ONNX Clip-13 has it."""
    return Where(value < bound, bound, value)


def _at_most(value: Expr, bound: Expr) -> Expr:
    return Where(bound < value, bound, value)


_ROWS = (
    Activation(
        name="relu",
        params=(),
        reference=lambda x: np.maximum(x, 0),
        forms={
            "op": Form(Relu(x), exact=TRUE, signed_zero=True),
            "max": Form(Max(x, 0), exact=TRUE, signed_zero=True),
            "clip": Form(Clip(x, 0, INF), exact=TRUE, signed_zero=True),
            "where": Form(Where(x < 0, 0, x), exact=TRUE, signed_zero=True),
            "where-greater": Form(Where(x > 0, x, 0), exact=TRUE, special={"nan": 0.0}, signed_zero=True),
            "abs": Form((x + Abs(x)) / 2, special={"-inf": NAN}, signed_zero=True, overflows=True),
            "half-abs": Form(0.5 * (x + Abs(x)), special={"-inf": NAN}, signed_zero=True, overflows=True),
        },
        source="Nair and Hinton 2010; ONNX Relu-14",
        torch="ReLU",
        kinks=(0.0,),
    ),
    Activation(
        name="relu6",
        params=(),
        reference=lambda x: np.clip(x, 0, 6),
        forms={
            "op": Form(Clip(x, 0, 6), exact=TRUE, signed_zero=True),
            "min-max": Form(Min(Max(x, 0), 6), exact=TRUE, signed_zero=True),
            "max-min": Form(Max(Min(x, 6), 0), exact=TRUE, signed_zero=True),
            "min-relu": Form(Min(Relu(x), 6), exact=TRUE, signed_zero=True),
            "relu-relu": Form(6 - Relu(6 - Relu(x)), signed_zero=True),
            "relu-difference": Form(Relu(x) - Relu(x - 6), special={"+inf": NAN}, signed_zero=True),
        },
        source="Krizhevsky 2010; Howard et al. 2017; ONNX Clip-13",
        torch="ReLU6",
        kinks=(0.0, 6.0),
    ),
    Activation(
        name="clip",
        params=(Param("min", -INF), Param("max", INF)),
        reference=lambda x, min, max: np.minimum(np.maximum(x, min), max),
        forms={
            "op": Form(Clip(x, low, high), when=low <= high, exact=TRUE, signed_zero=True),
            "max": Form(Max(x, low), when=equals(high, INF), exact=TRUE, signed_zero=True),
            "min": Form(Min(x, high), when=equals(low, -INF), exact=TRUE, signed_zero=True),
            "min-max": Form(Min(Max(x, low), high), when=low <= high, exact=TRUE, signed_zero=True),
            "max-min": Form(Max(Min(x, high), low), when=low <= high, exact=TRUE, signed_zero=True),
            "where": Form(_at_most(_at_least(x, low), high), when=low <= high, exact=TRUE, signed_zero=True),
            "where-min": Form(_at_least(x, low), when=equals(high, INF), exact=TRUE, signed_zero=True),
            "where-max": Form(_at_most(x, high), when=equals(low, -INF), exact=TRUE, signed_zero=True),
            "relu-relu": Form(high - Relu(high - Relu(x)), when=equals(low, 0) & (high > 0) & (high < INF)),
            "relu-shift": Form(
                high - Relu((high - low) - Relu(x - low)),
                when=(low <= high) & (low > -INF) & (high < INF),
                signed_zero=True,
            ),
        },
        source="hard tanh: Collobert 2004; ONNX Clip-13",
        torch="Hardtanh",
        kinks=(low, high),
    ),
    Activation(
        name="leaky_relu",
        params=(Param("alpha", _float32(0.01)),),
        reference=lambda x, alpha: select(x < 0, alpha * x, x),
        forms={
            "op": Form(LeakyRelu(x, alpha), exact=TRUE, signed_zero=True),
            "prelu": Form(PRelu(x, alpha), exact=TRUE, signed_zero=True),
            **_slope_forms(alpha),
            "fixed-slope": fixed_slope(FIXED_SLOPE),
        },
        source="Maas et al. 2013; ONNX LeakyRelu-16",
        torch="LeakyReLU",
        kinks=(0.0,),
    ),
    Activation(
        name="prelu",
        params=(Param("slope", 0.25, tensor=True),),
        reference=lambda x, slope: select(x < 0, slope * x, x),
        forms={
            "op": Form(PRelu(x, slope), exact=TRUE, signed_zero=True),
            "leaky-relu": Form(LeakyRelu(x, slope), when=Uniform(slope), exact=TRUE, signed_zero=True),
            **_slope_forms(slope),
        },
        source="He et al. 2015; ONNX PRelu-16 (torch.nn.PReLU starts at 0.25; ONNX has no default)",
        torch="PReLU",
        kinks=(0.0,),
    ),
    Activation(
        name="thresholded_relu",
        params=(Param("alpha", 1.0),),
        reference=lambda x, alpha: np.where(x > alpha, x, 0),
        forms={
            "op": Form(ThresholdedRelu(x, alpha), exact=TRUE),
            "where": Form(Where(x > alpha, x, 0), exact=TRUE, signed_zero=True),
            "where-less-equal": Form(
                Where(x <= alpha, 0, x), exact=TRUE, special={"nan": NAN}, signed_zero=True, emitted=False
            ),
            "relu-cast": Form(
                Relu(x) * Cast(x > alpha), when=alpha >= 0, exact=TRUE, special={"nan": NAN}, signed_zero=True
            ),
            "mul-cast": Form(x * Cast(x > alpha), exact=TRUE, special={"nan": NAN, "-inf": NAN}, signed_zero=True),
            "relu-sign": Form(
                x * Relu(Sign(x - alpha)), exact=TRUE, special={"nan": NAN, "-inf": NAN}, signed_zero=True
            ),
        },
        source="Konda et al. 2014; ONNX ThresholdedRelu-22",
        torch="Threshold",
        kinks=(alpha,),
    ),
    Activation(
        name="elu",
        params=(Param("alpha", 1.0),),
        reference=lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
        forms={
            "op": Form(Elu(x, alpha)),
            "relu-exp-min": Form(Relu(x) + alpha * (Exp(Min(x, 0)) - 1), signed_zero=True),
            "relu-exp-neg": Form(Relu(x) + alpha * (Exp(-Relu(-x)) - 1), signed_zero=True),
            "where": Form(Where(x < 0, alpha * (Exp(x) - 1), x), signed_zero=True),
            "relu-sigmoid": Form(Relu(x) + alpha * (_sigmoid_decay(Relu(-x)) - 1), signed_zero=True),
        },
        source="Clevert et al. 2016; ONNX Elu-22",
        torch="ELU",
        kinks=(0.0,),
    ),
    Activation(
        name="celu",
        params=(Param("alpha", 1.0),),
        reference=lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0) / alpha), x),
        forms={
            "op": Form(Celu(x, alpha), when=alpha > 0, signed_zero=True),
            "elu": Form(alpha * Elu(x / alpha, 1), when=alpha > 0, signed_zero=True),
            "max-min": Form(Max(x, 0) + Min(alpha * (Exp(x / alpha) - 1), 0), when=alpha > 0, signed_zero=True),
            "relu-exp-min": Form(Relu(x) + alpha * (Exp(Min(x, 0) / alpha) - 1), when=alpha > 0, signed_zero=True),
            "relu-exp-neg": Form(Relu(x) + alpha * (Exp(-Relu(-x) / alpha) - 1), when=alpha > 0, signed_zero=True),
        },
        source="Barron 2017; ONNX Celu-28 (forms hold for alpha > 0 only: onnx/onnx issue 3323)",
        torch="CELU",
        kinks=(0.0,),
    ),
    Activation(
        name="selu",
        params=(
            Param("alpha", _float32(1.67326319217681884765625)),
            Param("gamma", _float32(1.05070102214813232421875)),
        ),
        reference=lambda x, alpha, gamma: gamma * np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
        forms={
            "op": Form(Selu(x, alpha, gamma), signed_zero=True),
            "elu": Form(gamma * Elu(x, alpha), signed_zero=True),
            "relu-exp-min": Form(gamma * (Relu(x) + alpha * (Exp(Min(x, 0)) - 1)), signed_zero=True),
            "relu-exp-neg": Form(gamma * (Relu(x) + alpha * (Exp(-Relu(-x)) - 1)), signed_zero=True),
            "where": Form(Where(x < 0, gamma * (alpha * Exp(x) - alpha), gamma * x), signed_zero=True),
        },
        source="Klambauer et al. 2017; ONNX Selu-22",
        torch="SELU",
        kinks=(0.0,),
    ),
    Activation(
        name="softplus",
        params=(Param("beta", 1.0), Param("threshold", INF)),
        reference=_softplus,
        forms={
            "op": Form(Softplus(x), when=equals(beta, 1) & equals(threshold, INF)),
            "stable": Form(Relu(x) + Log(1 + Exp(-Abs(x))), when=equals(beta, 1) & equals(threshold, INF)),
            "naive": Form(
                Log(1 + Exp(x)), when=equals(beta, 1) & equals(threshold, INF), emitted=False, overflows=True
            ),
            "scaled": Form(Softplus(beta * x) / beta, when=(beta > 0) & equals(threshold, INF), overflows=True),
            "scaled-stable": Form(
                (Relu(beta * x) + Log(1 + Exp(-Abs(beta * x)))) / beta,
                when=(beta > 0) & equals(threshold, INF),
                overflows=True,
            ),
            "threshold": Form(Where(x > threshold, x, Softplus(x)), when=equals(beta, 1)),
            "scaled-threshold": Form(
                Where(beta * x > threshold, x, Softplus(beta * x) / beta), when=beta > 0, overflows=True
            ),
        },
        source="Dugas et al. 2000; ONNX Softplus-22; beta and threshold as torch.nn.Softplus has them",
        torch="Softplus",
    ),
    Activation(
        name="softsign",
        params=(),
        reference=lambda x: 1 / (np.copysign(1, x) + 1 / x),
        forms={
            "op": Form(Softsign(x), special={"+inf": NAN, "-inf": NAN}),
            "abs": Form(x / (1 + Abs(x)), special={"+inf": NAN, "-inf": NAN}),
            "reciprocal": Form(x * Reciprocal(1 + Abs(x)), special={"+inf": NAN, "-inf": NAN}),
        },
        source="Bergstra et al. 2009; ONNX Softsign-22",
        torch="Softsign",
    ),
    Activation(
        name="sigmoid",
        params=(),
        reference=_logistic,
        forms={
            "op": Form(Sigmoid(x)),
            "exp": Form(1 / (1 + Exp(-x))),
            "reciprocal": Form(Reciprocal(1 + Exp(-x))),
            "tanh": Form(0.5 * Tanh(0.5 * x) + 0.5),
            "stable": Form(Exp(-Relu(-x)) / (1 + Exp(-Abs(x)))),
        },
        source="ONNX Sigmoid-13",
        torch="Sigmoid",
    ),
    Activation(
        name="tanh",
        params=(),
        reference=lambda x: np.copysign(np.expm1(-2 * np.abs(x)) / (1 + np.exp(-2 * np.abs(x))), x),
        forms={
            "op": Form(Tanh(x)),
            "sigmoid": Form(2 * Sigmoid(2 * x) - 1, signed_zero=True),
            "exp": Form(1 - 2 / (1 + Exp(2 * x)), signed_zero=True),
        },
        source="ONNX Tanh-13",
        torch="Tanh",
    ),
    Activation(
        name="hard_sigmoid",
        params=(Param("alpha", _float32(0.2)), Param("beta", 0.5)),
        reference=lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
        forms={
            "op": Form(HardSigmoid(x, alpha, beta)),
            "clip": Form(Clip(alpha * x + beta, 0, 1)),
            "min-max": Form(Min(Max(alpha * x + beta, 0), 1)),
            "max-min": Form(Max(Min(alpha * x + beta, 1), 0)),
            "relu-relu": Form(1 - Relu(1 - Relu(alpha * x + beta))),
            "clip6": Form(Clip(x + 3, 0, 6) / 6, when=equals(alpha, _float32(1 / 6)) & equals(beta, 0.5)),
        },
        source="Courbariaux et al. 2015; ONNX HardSigmoid-22 (torch.nn.Hardsigmoid has alpha = 1/6)",
        torch="Hardsigmoid",
        kinks=(-beta / alpha, (1 - beta) / alpha),
    ),
    Activation(
        name="hard_swish",
        params=(),
        reference=lambda x: np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6)),
        forms={
            "op": Form(HardSwish(x), special={"-inf": NAN}, signed_zero=True),
            "hard-sigmoid": Form(x * HardSigmoid(x, 1 / 6, 0.5), special={"-inf": NAN}, signed_zero=True),
            "clip": Form(x * Clip(x / 6 + 0.5, 0, 1), special={"-inf": NAN}, signed_zero=True),
            "clip-mul": Form(x * Clip(1 / 6 * x + 0.5, 0, 1), special={"-inf": NAN}, signed_zero=True),
            "clip6": Form(x * Clip(x + 3, 0, 6) / 6, special={"-inf": NAN}, signed_zero=True, overflows=True),
            "clip6-mul": Form(x * Clip(x + 3, 0, 6) * (1 / 6), special={"-inf": NAN}, signed_zero=True, overflows=True),
            "relu-relu": Form(x * (1 - Relu(1 - Relu(x / 6 + 0.5))), special={"-inf": NAN}, signed_zero=True),
        },
        source="Howard et al. 2019; ONNX HardSwish-22",
        torch="Hardswish",
        kinks=(-3.0, 3.0),
    ),
    Activation(
        name="log_sigmoid",
        params=(),
        reference=lambda x: -np.logaddexp(0, -x),
        forms={
            "softplus": Form(-Softplus(-x)),
            "stable": Form(-Relu(-x) - Log(1 + Exp(-Abs(x)))),
            "log": Form(Log(Sigmoid(x)), signed_zero=True, emitted=False, overflows=True),
        },
        source="torch.nn.LogSigmoid (ONNX has no such op)",
        torch="LogSigmoid",
    ),
    Activation(
        name="swish",
        params=(Param("beta", 1.0),),
        reference=lambda x, beta: _gated(x, _logistic(beta * x)),
        forms={
            "op": Form(Swish(x, beta), special={"-inf": NAN, "+inf": NAN}),
            "mul-sigmoid": Form(x * Sigmoid(x), when=equals(beta, 1), special={"-inf": NAN}),
            "mul-sigmoid-beta": Form(x * Sigmoid(beta * x), special={"-inf": NAN, "+inf": NAN}),
            "div-exp": Form(x / (1 + Exp(-x)), when=equals(beta, 1), special={"-inf": NAN}),
            "div-exp-beta": Form(x / (1 + Exp(-(beta * x))), special={"-inf": NAN, "+inf": NAN}),
        },
        source="Ramachandran et al. 2017; Elfwing et al. 2018 (SiLU); ONNX Swish-24",
        torch="SiLU",
    ),
    Activation(
        name="mish",
        params=(),
        reference=_mish,
        forms={
            "op": Form(Mish(x), special={"-inf": NAN}),
            "tanh-softplus": Form(x * Tanh(Softplus(x)), special={"-inf": NAN}),
            "sigmoid": Form(
                x * (Sigmoid(x) * (1 + Sigmoid(-x)) / (1 + Sigmoid(-x) * Sigmoid(-x))), special={"-inf": NAN}
            ),
        },
        source="Misra 2019; ONNX Mish-22",
        torch="Mish",
    ),
    Activation(
        name="gelu",
        params=(),
        reference=lambda x: _gated(x, erfc(-x / SQRT_2) / 2),
        forms={
            "op": Form(Gelu(x, "none"), special={"-inf": NAN}),
            "erf": Form(0.5 * x * (1 + Erf(x / SQRT_2)), special={"-inf": NAN}),
            "erf-mul": Form(0.5 * x * (1 + Erf(x * (1 / SQRT_2))), special={"-inf": NAN}),
            "erf-half": Form(x * (1 + Erf(x / SQRT_2)) * 0.5, special={"-inf": NAN}, overflows=True),
            "polynomial": _gelu_polynomial(_decay),
            "polynomial-sigmoid": _gelu_polynomial(_sigmoid_decay),
            "tanh": Form(
                0.5 * x * (1 + Tanh(_cubic(x)["tanh-mul"])), special={"-inf": NAN}, signed_zero=True, error=4.8e-4
            ),
        },
        source="Hendrycks and Gimpel 2016; ONNX Gelu-20",
        torch="GELU",
    ),
    Activation(
        name="gelu_tanh",
        params=(),
        reference=lambda x: _gated(x, _logistic(2 * SQRT_2_OVER_PI * (x + 0.044715 * x**3))),
        forms={
            "op": Form(Gelu(x, "tanh"), special={"-inf": NAN}),
            **{
                name: Form(0.5 * x * (1 + Tanh(cubic)), special={"-inf": NAN}, signed_zero=True)
                for name, cubic in _cubic(x).items()
            },
            "sigmoid": Form(x * Sigmoid(2 * SQRT_2_OVER_PI * (x + 0.044715 * (x * x * x))), special={"-inf": NAN}),
        },
        source="Hendrycks and Gimpel 2016; ONNX Gelu-20, approximate = tanh",
        torch="GELU",
    ),
    Activation(
        name="noisy_relu",
        params=(Param("mean", 0.0), Param("scale", 1.0)),
        reference=lambda x, mean, scale: np.maximum(x, 0),
        forms={
            "relu": Form(Relu(x + RandomNormalLike(x, mean, scale))),
            "max": Form(Max(x + RandomNormalLike(x, mean, scale), 0)),
            "relu-shape": Form(Relu(x + RandomNormal(mean, scale)), emitted=False),
            "max-shape": Form(Max(x + RandomNormal(mean, scale), 0), emitted=False),
        },
        source="Nair and Hinton 2010, section 2: max(0, x + noise); the reference is without the noise",
        kinks=(0.0,),
    ),
)

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class Alias:
    """A second name of an activation, which stands for it with these parameters."""

    activation: str
    parameters: Mapping[str, float]
    source: str


ALIASES: dict[str, Alias] = {
    "silu": Alias("swish", {"beta": 1.0}, "Elfwing et al. 2018; torch.nn.SiLU"),
    "quick_gelu": Alias(
        "swish", {"beta": 1.702}, "Hendrycks and Gimpel 2016, section 2; com.microsoft QuickGelu-1, alpha = 1.702"
    ),
    "hard_tanh": Alias("clip", {"min": -1.0, "max": 1.0}, "Collobert 2004; torch.nn.Hardtanh(min_val=-1, max_val=1)"),
}

REWRITES: dict[str, dict[str, Expr]] = {
    "Add": {"sum": Sum(x, y)},
    "Neg": {"mul": x * -1},
    "Sub": {"add-neg": x + y * -1},
    "Abs": {"max": Max(x, -x), "relu": Relu(x) + Relu(-x)},
    "Greater": {"less": Less(y, x)},
    "Less": {"greater": y > x},
    "Reciprocal": {"div": 1 / x},
    "Div": {"reciprocal": x * Reciprocal(y)},
    "Min": {"neg-max": -Max(-x, -y)},
    "Max": {"neg-min": -Min(-x, -y)},
}
"""Ops that are no activation, with what computes them instead, in the variables x and y for their two operands."""
