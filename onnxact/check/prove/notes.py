"""What a reader of a proof has to know: which parameters the dtype does not hold, and what that means for the op.

A form's constants are rounded to the dtype, and so is what is proven. An op keeps its attribute in float32, and in
float16 a runtime may compute with that: LeakyRelu with alpha = 0.01 is then another function than one with 0.0100021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onnxact.check.prove.asked import refusal
from onnxact.check.prove.model import Subject, op_name
from onnxact.check.prove.patterns import Space
from onnxact.check.prove.place import NUMPY, Place


def rounding_notes(subject: Subject, place: Place, given: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each parameter that the dtype does not hold as given, and what the op makes of that one."""
    wanted = {param.name: given.get(param.name, param.default) for param in subject.activation.params}
    moved = {name: value for name, value in wanted.items() if _shown(value) != _shown(subject.parameters[name])}
    notes = [
        f"in {subject.dtype} {name} is {_shown(subject.parameters[name])}, not {_shown(value)}: that is what was tried"
        for name, value in moved.items()
    ]
    apart = _op_apart(subject, place, {name: float(np.float32(v)) for name, v in moved.items() if np.ndim(v) == 0})
    return notes + ([apart] if apart else [])


def _op_apart(subject: Subject, place: Place, attributes: Mapping[str, float]) -> str:
    """Return at how many inputs the op with the attributes as given has other bits; empty where it cannot be told."""
    form = subject.activation.forms.get("op")
    if form is None or not attributes or Space(subject.dtype).width != 16 or place.name == NUMPY:
        return ""
    if refusal(subject, form) or place.problem(subject, "op", form):
        return ""
    unrounded = replace(subject, parameters={**subject.parameters, **attributes})
    differ = int(np.count_nonzero(_results(subject, place) != _results(unrounded, place)))
    values = ", ".join(f"{name} = {_shown(value)}" for name, value in attributes.items())
    op = op_name(subject.activation, subject.opset)
    return f"{op} with {values} itself has other bits at {differ:,} of {Space(subject.dtype).total:,} inputs" * bool(
        differ
    )


def _results(subject: Subject, place: Place) -> Any:
    """Return the op at every input of a 16-bit dtype, as patterns; every NaN is the same."""
    space = Space(subject.dtype)
    engine = place.engine(subject, {"op": subject.activation.forms["op"]}, compares=False)
    found = []
    for first in range(0, space.total, engine.length):
        engine.start(first)
        engine.run()
        found.append(engine.output(0).copy())
    patterns = np.concatenate(found, axis=1)
    return np.where(space.is_nan(patterns), space.infinity + 1, patterns)


def _shown(value: Any) -> str:
    """Return numbers as float32 prints them, so that 0.2 and the float32 next to it are the same."""
    return ", ".join(str(np.float32(item)) if abs(item) < 1e38 else str(item) for item in np.ravel(value).tolist())
