"""The interval of an activation's output from that of its input: Relu [max(low, 0), max(high, 0)], Tanh [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnxact.check.bound_operands import Operands, Rule, fixed, number, same_or_zero, sign_kept
from onnxact.check.interval import NOT_NEGATIVE, UNIT, ZERO, Interval

_NOT_POSITIVE = Interval(-math.inf, 0.0)
_SIGNED_UNIT = Interval(-1.0, 1.0)


def _squashed(operands: Operands) -> Interval:
    """The sign of x, between -1 and 1."""
    return operands[0].sign().meet(_SIGNED_UNIT.widened())


def _relu(operands: Operands) -> Interval:
    found = operands[0]
    return Interval(max(found.low, 0.0), max(found.high, 0.0))


def _clip(operands: Operands) -> Interval:
    """min(max(x, lowest), highest); the bounds are attributes below opset 11."""
    found = operands[0]
    lowest = _clip_bound(operands, "min", 1, -math.inf)
    highest = _clip_bound(operands, "max", 2, math.inf)
    low = min(max(found.low, lowest.low), highest.low)
    return Interval(low, min(max(found.high, lowest.high), highest.high))


def _clip_bound(operands: Operands, name: str, position: int, absent: float) -> Interval:
    if operands.given(position):
        return operands[position]
    bound = number(operands, name, absent)
    return Interval(bound, bound)


def _sloped(operands: Operands) -> Interval:
    """x where x >= 0, s * x elsewhere: LeakyRelu, PRelu."""
    found = operands[0]
    if found.low >= 0:
        return found
    alpha = number(operands, "alpha", 0.01)
    slope = operands[1] if operands.given(1) else Interval(alpha, alpha)
    below = Interval(found.low, min(found.high, 0.0)).times(slope)
    return below if found.high <= 0 else below.hull(Interval(0.0, found.high))


def _exponential(operands: Operands) -> Interval:
    """x where x >= 0, between 0 and -alpha elsewhere: Elu, Celu."""
    found, alpha = operands[0], number(operands, "alpha", 1.0)
    if found.low >= 0:
        return found
    below = Interval(min(-alpha, 0.0), max(-alpha, 0.0)).widened()
    return below if found.high <= 0 else below.hull(Interval(0.0, found.high))


def _selu(operands: Operands) -> Interval:
    """gamma times Elu."""
    gamma, alpha = number(operands, "gamma", 1.0507), number(operands, "alpha", 1.6733)
    found = operands[0]
    below = ZERO if found.low >= 0 else Interval(min(-alpha, 0.0), max(-alpha, 0.0)).widened()
    above = Interval(max(found.low, 0.0), max(found.high, 0.0))
    return (above if found.low >= 0 else below.hull(above)).times(Interval(gamma, gamma))


def _dipping(depth: float) -> Rule:
    """At least -depth, at most x or 0: HardSwish, Mish, Gelu."""

    def rule(operands: Operands) -> Interval:
        found = operands[0]
        return Interval(0.0 if found.low >= 0 else -depth, max(found.high, 0.0)).widened()

    return rule


ACTIVATION_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax", "Hardmax"), fixed(UNIT)),
    **dict.fromkeys(("Tanh", "Softsign", "Erf"), _squashed),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _sloped),
    **dict.fromkeys(("Elu", "Celu"), _exponential),
    "HardSwish": _dipping(0.376),
    "Mish": _dipping(0.31),
    "Gelu": _dipping(0.171),
    "Selu": _selu,
    "Relu": _relu,
    "Clip": _clip,
    "Softplus": fixed(NOT_NEGATIVE),
    "LogSoftmax": fixed(_NOT_POSITIVE),
    "Swish": sign_kept,
    "ThresholdedRelu": same_or_zero,
}
