"""What was asked for -> a subject and forms that make sense, or one sentence that says why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxact.activation.catalog import ACTIVATIONS, Activation, Form, Param
from onnxact.activation.expr import RANDOM, ops
from onnxact.activation.forms import find_activation, find_form
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.arguments import texts
from onnxact.check.prove.model import Subject
from onnxact.errors import UsageError
from onnxact.rewrite.choose import Setting, obstacle, unavailable

MOST_SLOPES = 1024
_RANDOM = RANDOM | {"RandomNormalLike"}


def activation_named(name: str) -> Activation:
    """Return an activation whose forms are functions of x; UsageError for an unknown or a random one."""
    found = find_activation(name)
    if all(ops(form.expr) & _RANDOM for form in found.forms.values()):
        proven = ", ".join(row.spelled for row in ACTIVATIONS.values() if row is not found)
        raise UsageError(f"{found.spelled} draws random numbers, so that there is nothing to prove; known: {proven}")
    return found


def demand_sense(provider: object, against: object, opset: object, threads: object) -> None:
    """Raise UsageError for a provider that is no name, an unknown `against`, and numbers that are none."""
    if not isinstance(provider, str):
        raise UsageError(f"provider: expected one name, not {provider!r}")
    if against not in (None, "op", "reference"):
        raise UsageError(f"against: {against!r}; give op or reference")
    for name, value, least in (("opset", opset, 1), ("threads", threads, 1)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise UsageError(f"{name}: expected a whole number from {least} on, not {value!r}")


def dtype_named(name: str) -> str:
    """Return the dtype's name; UsageError for an unknown one."""
    if name not in FLOATS:
        raise UsageError(f"unknown dtype {name!r}; known: {', '.join(FLOATS)}")
    return name


def parameters_held(activation: Activation, given: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return every parameter as a float64 number that the dtype holds; a tensor of C > 1 slopes as [C, 1].

    UsageError for an unknown parameter, one that is no number, and several numbers where one is wanted.
    """
    known = {param.name: param for param in activation.params}
    for name in given:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise UsageError(f"{activation.spelled} has no parameter {name!r}; its parameters: {listed}")
    return {name: _held(activation, param, given.get(name, param.default), dtype) for name, param in known.items()}


def _held(activation: Activation, param: Param, value: Any, dtype: str) -> Any:
    where = f"{activation.spelled}'s {param.name}"
    if isinstance(value, str | bytes):
        raise UsageError(f"{where}: {value!r} is no number")
    try:
        numbers = np.asarray(value, np.float64).reshape(-1)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: {value!r} is no number") from error
    if not numbers.size or numbers.size > MOST_SLOPES:
        raise UsageError(f"{where}: {numbers.size} numbers; give 1 to {MOST_SLOPES}")
    if np.isnan(numbers).any():
        raise UsageError(f"{where} must be a number, not nan")
    if numbers.size > 1 and not param.tensor:
        raise UsageError(f"{where} is one number, not {numbers.size}")
    fixed = np.asarray(rounded(numbers, FLOATS[dtype]), np.float64)
    if (np.isinf(fixed) & np.isfinite(numbers)).any():
        raise UsageError(
            f"{where} = {numbers[np.isinf(fixed) & np.isfinite(numbers)][0]:g} is more than {dtype} can hold"
        )
    return fixed[:, np.newaxis] if fixed.size > 1 else float(fixed[0])


def forms_named(activation: Activation, wanted: str | Sequence[str]) -> dict[str, Form]:
    """Return name -> form; "all" stands for every form of the table, but not in company."""
    names = list(texts("form", wanted))
    if names == ["all"]:
        names = list(activation.forms)
    if not names:
        raise UsageError(f"no form is named; {activation.spelled}'s forms: {', '.join(activation.forms)}, or all")
    return {name: find_form(activation, name) for name in names}


def refusal(subject: Subject, form: Form) -> str:
    """Return why a form is not the activation, or cannot be written, for these parameters; empty where it can."""
    missing = [reason for op in sorted(ops(form.expr)) if (reason := unavailable(op, subject.dtype, subject.opset))]
    if missing:
        return "; ".join(missing)
    return obstacle(replace(form, emitted=True), subject.bound, Setting(subject.opset, subject.dtype))
