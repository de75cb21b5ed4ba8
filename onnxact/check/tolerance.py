"""What a caller allows -> the tolerance of each output; what an output needs -> the least that would pass.

A caller's tolerance is for outputs, by name or for all alike. Sites are held to the bound of their own form whatever it
is; one that is another function is no difference where every output that it moves is within a tolerance that was given.

NumPy's rule, in double: |after - before| <= atol + rtol * |before|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnxact.arguments import number
from onnxact.errors import UsageError

Doubles = npt.NDArray[np.float64]
Given = float | Mapping[str, float] | None
Origin = Literal["default", "given", "exact"]


@dataclass(frozen=True)
class Tolerance:
    """What a caller allows: for all outputs, and by output name. None stands for the default (see compare).

    Where either rtol or atol is given for an output, the one that is not is 0.
    """

    rtol: float | None = None
    atol: float | None = None
    outputs: Mapping[str, Tolerance] = field(default_factory=dict)

    @property
    def is_default(self) -> bool:
        """Whether the caller left both to onnxact."""
        return self.rtol is None and self.atol is None

    def of(self, output: str) -> Tolerance:
        """The tolerance of one output."""
        own = self.outputs.get(output)
        if own is None:
            return Tolerance(self.rtol, self.atol)
        rtol, atol = (self.rtol if own.rtol is None else own.rtol), (self.atol if own.atol is None else own.atol)
        return Tolerance(rtol, atol)


EXACT = Tolerance(0.0, 0.0)


def tolerance(rtol: Given, atol: Given) -> Tolerance:
    """A number holds for all outputs; a mapping by output name, with "" for all others. Raises UsageError."""
    general_rtol, by_rtol = _split("rtol", rtol)
    general_atol, by_atol = _split("atol", atol)
    names = dict.fromkeys((*by_rtol, *by_atol))
    own = {name: Tolerance(by_rtol.get(name), by_atol.get(name)) for name in names}
    return Tolerance(general_rtol, general_atol, own)


def demand_outputs(chosen: Tolerance, outputs: Iterable[str]) -> None:
    """Raise UsageError where a tolerance is for an output that the model does not have."""
    known = list(outputs)
    unknown = [name for name in chosen.outputs if name not in known]
    if unknown:
        listed = ", ".join(known) or "none"
        raise UsageError(f"tolerance for {', '.join(unknown)}: the model has no such output; its outputs: {listed}")


def least_atol(distance: Doubles, magnitude: Doubles, rtol: float) -> float:
    """The smallest double a >= 0 with distance <= a + rtol * magnitude for every element; inf where none is.

    `distance` is |after - before|, `magnitude` |before|. It is exact: the next smaller double fails.
    """
    needed, room = _needed_atol(distance, magnitude, rtol)
    close = _binding(needed, room)
    distance, relative = distance[close], _product(rtol, magnitude[close])
    return _least(lambda atol: bool(np.all(distance <= atol + relative)), needed)


def least_rtol(distance: Doubles, magnitude: Doubles, atol: float) -> float:
    """The smallest double r >= 0 with distance <= atol + r * magnitude for every element; inf where none is."""
    needed, room = _needed_rtol(distance, magnitude, atol)
    close = _binding(needed, room)
    distance, magnitude = distance[close], magnitude[close]
    return _least(lambda rtol: bool(np.all(distance <= atol + rtol * magnitude)), needed)


def undecided(distance: Doubles, magnitude: Doubles, rtol: float, atol: float) -> npt.NDArray[np.bool_]:
    """Few elements, with those among them that decide least_atol and least_rtol."""
    if not distance.size:
        return np.zeros(0, bool)
    with np.errstate(all="ignore"):
        room = 8 * np.spacing(max(float(distance.max()), atol))
        needed = distance - rtol * magnitude
        by_atol = needed >= needed.max() - 2 * room
        ratio = (distance - atol) / magnitude
        most = float(np.fmax.reduce((distance - atol - room) / magnitude)) * (1 - 1e-9)
        by_rtol = ~(distance + (room - atol) < most * magnitude - room) | np.isinf(ratio)
    return np.asarray(by_atol | by_rtol)


def _product(rtol: float, magnitude: Doubles) -> Doubles:
    with np.errstate(all="ignore"):
        return rtol * magnitude


def _needed_atol(distance: Doubles, magnitude: Doubles, rtol: float) -> tuple[Doubles, Doubles]:
    """The atol that each element needs, and how far rounding leaves that open."""
    with np.errstate(all="ignore"):
        return distance - rtol * magnitude, 8 * np.spacing(distance)


def _needed_rtol(distance: Doubles, magnitude: Doubles, atol: float) -> tuple[Doubles, Doubles]:
    with np.errstate(all="ignore"):
        needed = np.where(distance > atol, (distance - atol) / magnitude, 0.0)
        return needed, 8 * np.spacing(np.maximum(distance, atol)) / magnitude


def _split(option: str, given: Given) -> tuple[float | None, dict[str, float]]:
    pairs = {} if given is None else dict(given) if isinstance(given, Mapping) else {"": given}
    by_name = {name: number(f"{option} {name}".strip(), value) for name, value in pairs.items()}
    for name, value in by_name.items():
        if not (value >= 0 and math.isfinite(value)):
            text = f"{option} {name}:{value}" if name else f"{option} {value}"
            raise UsageError(f"{text}: expected a finite number of at least 0")
    return by_name.pop("", None), by_name


def _binding(needed: Doubles, room: Doubles) -> npt.NDArray[np.bool_]:
    """The elements that can decide: those that need the most, as far as rounding leaves that open."""
    if not needed.size:
        return np.zeros(0, bool)
    with np.errstate(all="ignore"):
        surely = needed - room
        return np.asarray(~(needed + room < np.fmax.reduce(surely)))


def _least(passes: Callable[[float], bool], needed: Doubles) -> float:
    """The smallest non-negative double for which a test, true from some value on, is true; `needed` is near it."""
    with np.errstate(all="ignore"):
        if not needed.size or passes(0.0):
            return 0.0
        guess = float(np.max(needed))
        if not math.isfinite(guess) or not passes(np.finfo(np.float64).max):
            return math.inf
        return _search(passes, max(guess, 5e-324))


def _search(passes: Callable[[float], bool], guess: float) -> float:
    """Bisection over the doubles, whose order is that of their bits, once `guess` has a neighbour on the other side."""
    low, high = 0, int(np.float64(np.finfo(np.float64).max).view(np.int64))
    near = int(np.float64(guess).view(np.int64))
    for step in (near - 1, near, near + 1):
        if low < step < high:
            low, high = (low, step) if passes(_double(step)) else (step, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(_double(middle)) else (middle, high)
    return _double(high)


def _double(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))
