"""(activation, parameters) -> the gradient of torch.nn's class and of every form, on both sides of zero and at it.

leaky_relu, alpha = 0.2, at -0.5, 0, 0.5:   torch.nn.LeakyReLU 0.2, 0.2, 1   mul-max 0.2, 0.6, 1   where 0.2, 1, 1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import Expr, text
from onnxact.activation.numeric import fold, holds
from onnxact.torch.classes import find_target
from onnxact.torch.terms import evaluate, gradient

_SIDES = (-0.5, 0.0, 0.5)


@dataclass(frozen=True)
class Gradient:
    """The derivative at some inputs. `form` is the name of a form, "" for the class of torch.nn."""

    form: str
    formula: str
    at: Mapping[float, float]


def gradients(activation: str, parameters: Mapping[str, float] | None = None) -> tuple[Gradient, ...]:
    """Return the class of torch.nn first, then every form that holds for the parameters (the class's, if not given).

    At -0.5, 0 and 0.5, and as far from where the slope of the activation jumps. A form's is that of autograd through
    its term, with each op as PyTorch has it, in float64. Raises UsageError.
    """
    target = find_target(activation, parameters or {})
    row, numbers = ACTIVATIONS[target.activation], target.parameters
    kinks = [float(np.asarray(fold(kink, numbers))) if isinstance(kink, Expr) else kink for kink in row.kinks]
    points = sorted({place + side for place in (0.0, *kinks) for side in _SIDES})
    native = Gradient("", f"torch.nn.{row.torch}", _at(points, target.build(in_place=False).double()))
    forms = {name: form.expr for name, form in row.forms.items() if holds(form.when, numbers)}
    return (native, *(Gradient(name, text(e), _at(points, _computed(e, numbers))) for name, e in forms.items()))


def _computed(expr: Expr, numbers: Mapping[str, float]) -> Callable[[Tensor], Tensor]:
    return lambda x: evaluate(expr, x, numbers)


def _at(points: list[float], function: Callable[[Tensor], Tensor]) -> dict[float, float]:
    return {point: gradient(function, point) for point in points}
