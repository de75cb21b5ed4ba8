"""(two models whose outputs differ) -> likely causes, found by cheap follow-up runs or in the models themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnxact.check.diagnosis import Cause
from onnxact.check.nonfinite import first_nan, half_range, nan_rules, near_zero
from onnxact.check.origin import at_origin
from onnxact.check.reruns import exchanged, optimisation, tf32, unstable
from onnxact.check.symptoms import Symptoms

# The plainest explanation first.
_QUESTIONS: tuple[Callable[[Symptoms], Iterator[Cause]], ...] = (
    exchanged,
    unstable,
    tf32,
    optimisation,
    nan_rules,
    first_nan,
    half_range,
    at_origin,
    near_zero,
)


def causes(symptoms: Symptoms) -> tuple[Cause, ...]:
    """Every likely cause that was found, each once."""
    found = (cause for question in _QUESTIONS for cause in question(symptoms))
    return tuple({cause.text: cause for cause in found}.values())
