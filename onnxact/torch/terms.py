"""A form as PyTorch computes it: (term, x, parameters) -> tensor, through which autograd finds the form's gradient.

(1 + alpha) / 2 * x + (1 - alpha) / 2 * Abs(x)   at x = 0   ->   0, with gradient (1 + alpha) / 2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from onnxact.activation.expr import Call, Expr, Variable, varies
from onnxact.activation.numeric import Values, fold

OPS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "Add": torch.add,
        "Sub": torch.sub,
        "Mul": torch.mul,
        "Div": torch.div,
        "Neg": torch.neg,
        "Reciprocal": torch.reciprocal,
        "Pow": torch.pow,
        "Abs": torch.abs,
        "Sign": torch.sign,
        "Max": torch.maximum,
        "Min": torch.minimum,
        "Clip": torch.clamp,
        "Relu": torch.relu,
        "Where": torch.where,
        "Less": torch.lt,
        "Greater": torch.gt,
        "LessOrEqual": torch.le,
        "GreaterOrEqual": torch.ge,
        "Cast": lambda condition: condition.to(torch.float64),
        "Exp": torch.exp,
        "Log": torch.log,
        "Tanh": torch.tanh,
        "Erf": torch.erf,
        "Sigmoid": torch.sigmoid,
        "Softplus": lambda x: functional.softplus(x, threshold=40.0),
        "Softsign": functional.softsign,
        "Elu": lambda x, alpha: functional.elu(x, float(alpha)),
        "Celu": lambda x, alpha: torch.celu(x, float(alpha)),
        "Selu": lambda x, alpha, gamma: gamma * functional.elu(x, float(alpha)),
        "LeakyRelu": lambda x, alpha: functional.leaky_relu(x, float(alpha)),
        "PRelu": lambda x, slope: torch.prelu(x, slope.reshape(1)),
        "ThresholdedRelu": lambda x, alpha: functional.threshold(x, float(alpha), 0.0),
        "HardSigmoid": lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0.0, 1.0),
        "HardSwish": functional.hardswish,
        "Swish": lambda x, beta: x * torch.sigmoid(beta * x),
        "Mish": functional.mish,
        "Gelu": lambda x, approximate: functional.gelu(x, approximate=approximate),
    }
)
"""ONNX op -> the function of PyTorch that computes it, or what its specification says where there is none."""


def evaluate(expr: Expr, x: Tensor, parameters: Values) -> Tensor:
    """Return a form at `x`, float64, op by op. What has no x in it is folded, as it is where the form is emitted."""
    known: dict[Expr, Any] = {}

    def value(node: Expr) -> Any:
        if isinstance(node, Variable):
            return x
        if node not in known:
            if isinstance(node, Call) and varies(node):
                known[node] = OPS[node.op](*map(value, node.args))
            else:
                known[node] = _folded(node, parameters)
        return known[node]

    result: Tensor = value(expr)
    return result


def _folded(node: Expr, parameters: Values) -> Any:
    number = fold(node, parameters)
    return number if isinstance(number, str) else torch.from_numpy(np.asarray(number, np.float64).copy())


def gradient(function: Callable[[Tensor], Tensor], at: float) -> float:
    """Return what autograd gives for the derivative of an elementwise function of float64 at one point."""
    x = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(function(x).sum(), x, allow_unused=True)
    return 0.0 if found is None else float(found)
