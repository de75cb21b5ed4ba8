"""Constants -> the shape in which a target takes them.

Layouts, for x of shape [N, C, H, W]: `one` is [1], or [] where x may have no dimension; `full` is [N, C, H, W];
`C11` is [C, 1, 1]; `1C11` is [1, C, 1, 1]; `C` is [C], which ONNX broadcasts along the last axis, so that x must be
[N, C]; `last` is any whose last dimension is that of x; `dimensioned` is any with at least one dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxact.model.types import Shape
from onnxact.rewrite.target.rules import ConstantShape

LAYOUTS = ("one", "full", "C11", "1C11", "C", "last", "dimensioned")
CHANNEL_AXIS = 1


@dataclass(frozen=True)
class Writing:
    """How the constants of a form are written for a target, where x has this shape.

    `shapes`: (op, operand) -> layouts; for others `constants` decides, but Clip's bounds never have dimensions.
    `shared`, `nodes`: as in `rules.Constants`. `declared`: new values are declared with their shapes even where the
    model does not declare them.
    """

    shape: Shape | None
    constants: ConstantShape = "one"
    shapes: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    shared: bool = True
    nodes: bool = False
    declared: bool = False

    def laid_out(self, op: str, operand: str, value: NDArray[Any]) -> NDArray[Any] | None:
        """Return a constant in the shape in which it is written, None where the target takes it in none."""
        layouts = self.shapes.get((op, operand))
        if layouts is None and op == "Clip":
            return value
        if layouts is None:
            if self.constants == "full":
                return lay_out(value, self.shape, "full")
            return value if value.ndim or self.constants == "scalar" else _unit(value, self.shape)
        laid = (lay_out(value, self.shape, layout) for layout in layouts)
        return next((array for array in laid if array is not None), None)

    def keeps(self, op: str, operand: str) -> bool:
        """Tell whether a constant that the model already has can be read as it is."""
        return self.shared and self.constants != "full" and (op, operand) not in self.shapes


def lay_out(value: NDArray[Any], shape: Shape | None, layout: str) -> NDArray[Any] | None:
    """Return a constant that broadcasts to `shape` in a layout; None where that cannot hold it, or is not known."""
    if layout == "one":
        return _unit(value.reshape(-1)[0], shape) if _uniform(value) else None
    if layout == "dimensioned":
        return value if value.ndim else value.reshape(1) if shape else None
    if shape is None:
        return None
    wanted = _dimensions(shape, layout, value)
    if wanted is None or not _fits(value, wanted):
        return None
    return _filled(value, wanted)


def accepted(value: NDArray[Any], shape: Shape | None, layouts: Iterable[str]) -> bool:
    """Tell whether a constant of the model stands in one of the layouts."""
    return any(_stands(value, shape, layout) for layout in layouts)


def _stands(value: NDArray[Any], shape: Shape | None, layout: str) -> bool:
    if layout == "one":
        return value.size == 1
    if layout == "dimensioned":
        return value.ndim > 0
    if layout == "last":
        return bool(shape) and value.ndim > 0 and value.shape[-1] == (shape or (None,))[-1]
    wanted = None if shape is None else _dimensions(shape, layout, value)
    return wanted is not None and value.shape == wanted


def _unit(value: Any, shape: Shape | None) -> NDArray[Any]:
    array = np.asarray(value)
    return array.reshape(1) if shape else array.reshape(())


def _uniform(value: NDArray[Any]) -> bool:
    return value.size > 0 and bool(np.all(value == value.reshape(-1)[0]))


def _dimensions(shape: Shape, layout: str, value: NDArray[Any]) -> tuple[int, ...] | None:
    """Return the dimensions of a layout, None where x has not those, or they are not known."""
    if layout == "last":
        wanted: Shape = (*value.shape[:-1], *(shape[-1:] or (None,)))
    elif layout == "full":
        wanted = shape
    elif layout == "C" or len(shape) <= CHANNEL_AXIS:
        wanted = shape[1:] if len(shape) == 2 else (None,)
    else:
        wanted = (shape[CHANNEL_AXIS], *([1] * (len(shape) - 2)))
        wanted = (1, *wanted) if layout == "1C11" else wanted
    known = tuple(d for d in wanted if isinstance(d, int) and d > 0)  # exporters write 0 for what they do not know
    return known if len(known) == len(wanted) else None


def _fits(value: NDArray[Any], wanted: tuple[int, ...]) -> bool:
    """Tell whether the value broadcasts to `wanted`; leading dimensions of 1 may fall away."""
    own = value.shape
    while len(own) > len(wanted) and own[0] == 1:
        own = own[1:]
    tail = wanted[len(wanted) - len(own) :] if own else ()
    return len(own) <= len(wanted) and all(mine in (1, size) for mine, size in zip(own, tail, strict=True))


def _filled(value: NDArray[Any], wanted: tuple[int, ...]) -> NDArray[Any]:
    extra = max(value.ndim - len(wanted), 0)
    return np.array(np.broadcast_to(value.reshape(value.shape[extra:]), wanted))
