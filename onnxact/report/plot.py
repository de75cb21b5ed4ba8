"""An activation -> a picture: its function above, and below how far each form's result is from it, in units of u.

Forms are evaluated by NumPy op by op in the dtype, as `activation.numeric.evaluate` does; the function is the row's own
reference in float64; both at the parameters rounded to the dtype. One u is the dtype's unit roundoff times the size of
the function's value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from onnxact.activation.catalog import Activation
from onnxact.activation.forms import find_form
from onnxact.activation.numeric import FLOATS, evaluate, holds, rounded
from onnxact.activation.primitives import Array
from onnxact.activation.rounding import limits, unit_roundoff
from onnxact.errors import MissingPackageError, UsageError
from onnxact.model import atomic, files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
_POINTS = 4001


@dataclass(frozen=True)
class Curves:
    """What a picture shows: `x` and the `reference` in float64, each [points]; form name -> error in u, [points]."""

    activation: Activation
    parameters: Mapping[str, float]
    dtype: str
    x: Array
    reference: Array
    errors: Mapping[str, Array]


def curves(
    activation: Activation,
    parameters: Mapping[str, float],
    *,
    forms: Sequence[str] = (),
    dtype: str = "float32",
    span: tuple[float, float] = (-4.0, 4.0),
) -> Curves:
    """Return an activation and its forms at evenly spaced numbers of `dtype`.

    forms: names; none means all that the parameters allow.
    Raises UsageError: an unknown dtype, form or parameter, an empty span, a form outside its domain.
    """
    _demand_sense(activation, parameters, dtype, span)
    x = rounded(np.linspace(*span, _POINTS), FLOATS[dtype])
    given = {**activation.defaults, **parameters}
    values = {name: float(rounded(value, FLOATS[dtype])) for name, value in given.items()}
    with np.errstate(all="ignore"):
        reference = np.asarray(activation.reference(x.astype(np.float64), **values), np.float64)
    named = _forms(activation, values, forms)
    errors = {name: _in_roundoffs(evaluate(find_form(activation, name).expr, x, values), reference) for name in named}
    return Curves(activation, values, dtype, x.astype(np.float64), reference, errors)


def _demand_sense(
    activation: Activation, parameters: Mapping[str, float], dtype: str, span: tuple[float, float]
) -> None:
    if activation.name == "noisy_relu":
        raise UsageError("noisy-relu gives another output at every run: there is no one curve to draw")
    if dtype not in FLOATS:
        raise UsageError(f"unknown dtype {dtype!r}; known: {', '.join(FLOATS)}")
    unknown = [name for name in parameters if name not in activation.defaults]
    if unknown:
        listed = ", ".join(activation.defaults) or "none"
        raise UsageError(f"{activation.spelled} has no parameter {unknown[0]!r}; its parameters: {listed}")
    if not (np.isfinite(span).all() and span[0] < span[1]):
        raise UsageError(f"range {span[0]:g} to {span[1]:g}: expected two finite numbers, the lower one first")


def _forms(activation: Activation, values: Mapping[str, float], wanted: Sequence[str]) -> list[str]:
    for name in wanted:
        if not holds(find_form(activation, name).when, values):
            raise UsageError(f"form {name} of {activation.spelled} does not hold for these parameters")
    allowed = [name for name, form in activation.forms.items() if holds(form.when, values)]
    return list(dict.fromkeys(wanted)) or allowed


def _in_roundoffs(result: Array, reference: Array) -> Array:
    """Return |result - reference| in units of u: 0 where the result is the reference rounded once."""
    unit = unit_roundoff(result.dtype) * np.maximum(np.abs(reference), float(limits(result.dtype).smallest_normal))
    with np.errstate(all="ignore"):
        error = np.abs(result.astype(np.float64) - reference) / unit
    return np.where(result == rounded(reference, result.dtype), 0.0, error)


def draw(shown: Curves, path: Path, *, force: bool = False) -> None:
    """Write the picture, in the format that the suffix names; an existing file needs `force`.

    Raises UsageError (a suffix that is none of png, svg, pdf), FileConflictError, MissingPackageError.
    """
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise UsageError(f"{path}: a picture is a .{', .'.join(FORMATS)} file")
    files.check_writable(path, None, force=force, in_place=False)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("matplotlib", "plot", "a picture") from error
    figure = Figure(figsize=(8, 6), layout="constrained")
    _fill(figure, shown)
    dated: dict[str, Any] = (
        {} if suffix == "png" else {"metadata": {"CreationDate" if suffix == "pdf" else "Date": None}}
    )

    def write(stream: IO[bytes]) -> None:
        figure.savefig(stream, format=suffix, dpi=120, **dated)

    atomic.write_all({path: write})


def _fill(figure: Figure, shown: Curves) -> None:
    above, below = figure.subplots(2, 1, sharex=True)
    parameters = ", ".join(f"{name} = {value:g}" for name, value in shown.parameters.items())
    above.set_title(f"{shown.activation.spelled}{f' ({parameters})' if parameters else ''}, {shown.dtype}")
    above.plot(shown.x, shown.reference, color="black", linewidth=1.5)
    above.set_ylabel("f(x)")
    above.grid(alpha=0.3)
    _errors(below, shown)
    below.set_xlabel("x")
    below.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small", markerscale=4, ncols=min(len(shown.errors), 3))


def _errors(axes: Axes, shown: Curves) -> None:
    """Draw a dot for each error; a form without any is only named."""
    for name, error in shown.errors.items():
        seen = error > 0
        label = f"{name}: at most {error.max():.3g} u" if seen.any() else f"{name}: exact here"
        axes.plot(shown.x[seen], error[seen], ".", markersize=2.5, label=label)
    if any(np.any((error > 0) & np.isfinite(error)) for error in shown.errors.values()):
        axes.set_yscale("log")
    axes.set_ylabel("error / u")
