"""(x, y, what a site means) -> how far y is from f(x), over a whole tensor.

    y = Max(x, 0.2 x) in float32, f = LeakyRelu(0.2)  ->  Accuracy(elements=1000, compared=1000, outside=0, max_u=1.0)

A function that rounds at most once (one that has exact forms) is evaluated in the tensor's own dtype; only what differs
from that is held against the bound of the form. Of other functions a sample is: as many elements as can be done in a
fraction of the time that a model takes to run. `Accuracy.compared` says how many elements that makes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxact.activation.numeric import FLOATS, dtype_name
from onnxact.activation.rounding import limits, unit_roundoff
from onnxact.check.allowance import Judged, Points, judge_exact, judge_points, same_value
from onnxact.check.site_evidence import Accuracy
from onnxact.check.standard import Array, Standard, Values, held_numbers, numbers

Index = npt.NDArray[np.int64]

_NOWHERE = np.array([], np.int64)
_BLOCK = 1 << 16
"""Elements that are evaluated at a time."""
_MOST_DEVIATING, _FEW = 1 << 11, 1 << 9
"""Elements that are held closely: at most twice the one, at least the other."""
_SAMPLE, _RUN = 1 << 14, 1 << 2
"""Elements that a sample looks at, and how many of them lie next to each other."""
_QUICK = 1 << 16
"""Elements up to which no sample is taken (see _unsampled)."""
_CLOSELY = 1 << 12
"""Elements that are held closely of a function that rounds often."""
_ON_ITS_OWN = 1 << 14
"""Elements of a site on its own that are held closely without further ado."""


def judge(
    standard: Standard,
    x: Array,
    y: Array,
    *,
    inputs: str = "",
    computed: Values | None = None,
    channel_axis: int | None = None,
    thorough: bool = True,
) -> Accuracy:
    """Hold what left a site against its reference.

    x, y: arrays of one dtype (float16, bfloat16, float32, float64), y of the shape that x and the parameters broadcast
    to. `inputs` says on which inputs of the model. `computed`: the values of parameters that the model computes, by
    value name; where one is missing nothing is compared. `channel_axis`, counted from the end: see Accuracy.channels.
    `thorough`: every element is looked at where the function rounds at most once, else a sample of large arrays.
    """
    dtype = dtype_name(x.dtype)
    if dtype not in FLOATS:
        return Accuracy(y.size, problem=f"{x.dtype} is no floating-point type")
    function = held_numbers(standard.function, dtype, computed)
    own = {} if standard.own is None else numbers(standard.own, computed)
    if function is None or own is None:
        return Accuracy(y.size, problem="a parameter of it is not known")
    shape = np.broadcast_shapes(x.shape, *(np.shape(value) for value in function.values()))
    if y.shape != shape or y.dtype != x.dtype:
        problem = f"{y.dtype}{list(y.shape)} left it, expected {x.dtype}{list(shape)}"
        return Accuracy(y.size, y.size, max(1, y.size), inputs=inputs, problem=problem)
    if not y.size:
        return Accuracy()
    with np.errstate(all="ignore"):
        picked = _picked(standard, x, y, function, thorough=thorough)
        points = _points(picked.closely, x, y, function, own)
        judged = (judge_points if picked.deviate else judge_exact)(standard, points)
        return _summary(points, judged, picked, y.shape, channel_axis, inputs=inputs)


def merged(first: Accuracy | None, second: Accuracy | None) -> Accuracy | None:
    """Both together; the worst element is that of the worse."""
    if first is None or second is None:
        return first or second
    worse = max(first, second, key=_severity)
    return replace(
        worse,
        elements=first.elements + second.elements,
        compared=first.compared + second.compared,
        outside=first.outside + second.outside,
        max_u=max(first.max_u, second.max_u),
        max_abs=max(first.max_abs, second.max_abs),
        channels=tuple(sorted({*first.channels, *second.channels})),
        declared=tuple(dict.fromkeys((*first.declared, *second.declared))),
        problem=first.problem or second.problem,
    )


def described(found: Accuracy) -> str:
    """The worst element in words."""
    if found.problem:
        return found.problem
    where = f"at {list(found.index)}, x = {found.x:.9g}: {found.y:.9g} left it, f(x) is {found.expected:.9g}"
    several = f"; {found.outside} of {found.compared} elements are outside" if found.outside > 1 else ""
    channels = f", in channels {_listed(found.channels)}" if found.channels else ""
    return f"{where}, {found.allowed:.3g} allowed ({found.max_u:.3g} u at most{several}{channels})"


def _listed(channels: tuple[int, ...]) -> str:
    return ", ".join(str(channel) for channel in channels[:8]) + (", ..." if len(channels) > 8 else "")


def _severity(item: Accuracy) -> tuple[bool, float, float]:
    distance = abs((item.y or 0.0) - (item.expected or 0.0))
    excess = distance / item.allowed if item.outside and item.allowed else 0.0
    return item.outside > 0, np.inf if np.isnan(excess) else excess, item.max_u


# Which elements are looked at closely


class _Picked(NamedTuple):
    """Flat indices to look at closely, how many elements count as compared, and whether any of these may deviate."""

    closely: Index
    compared: int
    deviate: bool = True


def _picked(standard: Standard, x: Array, y: Array, function: Values, *, thorough: bool) -> _Picked:
    if standard.on_its_own and (y.size <= _ON_ITS_OWN or not standard.rounds_once):
        return _Picked(np.arange(y.size), y.size)
    if not standard.rounds_once:
        picked = _both(y.size, _spread(y.size, min(_CLOSELY, max(_FEW, y.size // 32))), _not_finite(y))
        return _Picked(picked, picked.size)
    if thorough or y.size <= _unsampled(y.dtype, function) or x.shape != y.shape:
        looked_at = y.size
        deviating = _deviating(standard, x, y, function)
        others = _spread(y.size, _FEW)
    else:
        starts = _runs(y.size)
        looked_at = starts.size * _RUN
        deviating = _deviating_in_runs(standard, starts, x, y, function)
        others = starts[:: starts.size // _FEW]
    if standard.on_its_own:
        others = np.arange(_CLOSELY)  # what is fed into a site on its own begins with the special values
    elif not deviating.size:
        return _Picked(others, looked_at, deviate=False)
    closely = _worst(standard, x, y, function, deviating)
    picked = _both(y.size, closely, others)
    left_out = 0 if closely is deviating else deviating.size - _common(y.size, deviating, picked)
    return _Picked(picked, max(picked.size, looked_at - left_out))


def _unsampled(dtype: np.dtype[Any], function: Values) -> int:
    """Up to how many elements no sample is taken: it takes longer in 16 bits, and each channel with its own slope has
    to be met.
    """
    several = any(np.ndim(value) for value in function.values() if not isinstance(value, str))
    return (_SAMPLE if dtype.itemsize == 2 else _QUICK) << (2 if several else 0)


def _not_finite(y: Array) -> Index:
    return np.flatnonzero(~np.isfinite(y))[:_CLOSELY]


def _both(size: int, first: Index, second: Index) -> Index:
    """The indices in either, in order, each once; of `size` elements."""
    if not first.size or not second.size:
        return second if not first.size else first
    chosen = np.zeros(size, np.bool_)
    chosen[first] = True
    chosen[second] = True
    return np.flatnonzero(chosen)


def _common(size: int, first: Index, second: Index) -> int:
    """How many indices are in both."""
    chosen = np.zeros(size, np.bool_)
    chosen[first] = True
    return int(np.count_nonzero(chosen[second]))


def _spread(size: int, count: int) -> Index:
    """Evenly spread indices, about `count`, by an odd step, so that rows and channels of a power of two are all met."""
    step = max(1, size // count)
    return np.arange(0, size, step if step % 2 else step + 1, dtype=np.int64)


def _runs(size: int) -> Index:
    """Where the runs of a sample begin, each with room for a whole step behind it."""
    starts = _spread(size, _SAMPLE // _RUN)
    return starts[: size // int(starts[1])]


def _narrow(function: Values, dtype: np.dtype[Any]) -> Values:
    """Parameters in the dtype in which f is evaluated: float32 holds a product of two 16-bit numbers exactly."""
    wide = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
    return {name: np.asarray(value, wide) for name, value in function.items()}


def _deviating(standard: Standard, x: Array, y: Array, function: Values) -> Index:
    """Flat indices at which y is not f(x) rounded once; a block at a time, so that little besides x and y is held."""
    constants = _narrow(function, x.dtype)
    names = [name for name, value in constants.items() if value.ndim]
    operands = [x, y, *(constants[name] for name in names)]
    readonly: list[list[Literal["readonly"]]] = [["readonly"]] * len(operands)
    blocks = np.nditer(operands, ["external_loop", "buffered"], readonly, order="C", buffersize=_BLOCK)
    found: list[Index] = []
    start = 0
    for entered, left, *slopes in blocks:
        here = {**constants, **dict(zip(names, slopes, strict=True))}
        found.append(start + _unequal(standard, entered, left, here))
        start += left.size
    return np.concatenate(found)


def _deviating_in_runs(standard: Standard, starts: Index, x: Array, y: Array, function: Values) -> Index:
    """The same of runs: what lies together is read from memory together."""
    step = int(starts[1])
    rows = (item.reshape(-1)[: starts.size * step].reshape(-1, step) for item in (x, y))
    entered, left = (row[:, :_RUN].reshape(-1) for row in rows)
    constants = _narrow(function, x.dtype)
    if any(value.ndim for value in constants.values()):
        index = (starts[:, None] + np.arange(_RUN)).reshape(-1)
        constants = {name: _at(value, y.shape, index) if value.ndim else value for name, value in constants.items()}
    at = _unequal(standard, entered, left, constants)
    return starts[at // _RUN] + at % _RUN


def _unequal(standard: Standard, x: Array, y: Array, constants: Values) -> Index:
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    expected = standard.reference(wide, constants).astype(x.dtype, copy=False)
    bits = f"u{x.dtype.itemsize}"
    different = expected.view(bits) != y.view(bits)
    if not different.any():
        return _NOWHERE
    at = np.flatnonzero(different)
    return at[~same_value(expected[at], y[at])]


def _worst(standard: Standard, x: Array, y: Array, function: Values, deviating: Index) -> Index:
    """All deviating elements; of very many, those that deviate most on each side of 0, and an even share."""
    if deviating.size <= 2 * _MOST_DEVIATING:
        return deviating
    points = _points(deviating, x, y, function, {})
    wide = np.float64 if x.dtype == np.float64 else np.float32
    held = {name: np.asarray(value, wide) for name, value in points.function.items()}
    expected = standard.reference(points.x.astype(wide), held)
    error = np.abs(points.y.astype(wide) - expected) / np.maximum(np.abs(expected), wide(1e-30))
    error = np.where(np.isnan(error), np.inf, error)
    most = [_largest(error, np.flatnonzero(side)) for side in (points.x < 0, ~(points.x < 0))]
    return _both(y.size, deviating[np.concatenate(most)], deviating[:: deviating.size // _MOST_DEVIATING])


def _largest(error: Array, among: Index) -> Index:
    """Where the errors on one side of 0 are largest: a form may be far from f(x) on one side, and right to be."""
    count = min(among.size, _MOST_DEVIATING // 2)
    return among[np.argpartition(error[among], -count)[-count:]] if count else among


def _points(index: Index, x: Array, y: Array, function: Values, own: Values) -> Points:
    def at(value: Any) -> Any:
        return value if isinstance(value, str) or not np.ndim(value) else _at(value, y.shape, index)

    chosen = ({name: at(value) for name, value in values.items()} for values in (function, own))
    return Points(_at(x, y.shape, index), y.reshape(-1)[index], *chosen)


def _at(value: Array, shape: tuple[int, ...], index: Index) -> Array:
    """The elements at flat indices of the shape to which a value is broadcast. ValueError where it cannot be."""
    if value.shape == shape:
        return value.reshape(-1)[index]
    solid = np.ascontiguousarray(value)
    place, inner = np.zeros_like(index), 1
    for size, stride in zip(reversed(shape), reversed(np.broadcast_to(solid, shape).strides), strict=True):
        if stride:
            outer = index // inner
            place += (outer - outer // size * size) * (stride // solid.itemsize)
        inner *= size
    return solid.reshape(-1)[place]


# What they show


def _summary(
    points: Points, judged: Judged, picked: _Picked, shape: tuple[int, ...], channel_axis: int | None, *, inputs: str
) -> Accuracy:
    errors = _in_roundoffs(points.x.dtype, judged)
    outside = picked.closely[judged.outside]
    place = _worst_place(points, judged, errors, some_outside=outside.size > 0)
    return Accuracy(
        elements=math.prod(shape),
        compared=picked.compared,
        outside=outside.size,
        max_u=float(errors.max()),
        max_abs=float(judged.distance.max(where=np.isfinite(judged.distance), initial=0.0)),
        inputs=inputs,
        index=tuple(int(axis) for axis in np.unravel_index(picked.closely[place], shape)),
        x=float(points.x[place]),
        y=float(points.y[place]),
        expected=float(judged.expected[place]),
        allowed=float(judged.allowed[place]),
        channels=_channels(outside, shape, channel_axis),
        declared=judged.declared,
    )


def _in_roundoffs(dtype: np.dtype[Any], judged: Judged) -> Array:
    """|y - f(x)| / (u |f(x)|), below the smallest normal number in its u; 0 where no number tells the distance."""
    smallest = float(limits(dtype).smallest_normal)
    found = judged.distance / (unit_roundoff(dtype) * np.maximum(np.abs(judged.expected), smallest))
    at = ~np.isfinite(found)
    if at.any():
        found[at] = np.where(judged.outside[at], np.inf, 0.0)
    return np.asarray(found)


def _worst_place(points: Points, judged: Judged, errors: Array, *, some_outside: bool) -> int:
    """The element furthest outside its bound; where none is outside, the finite one with the largest error."""
    if not some_outside:
        return int(np.argmax(np.where(np.isfinite(points.x) & np.isfinite(points.y), errors, -1.0)))
    excess = np.where(np.isnan(judged.distance), np.inf, judged.distance - judged.allowed)
    relative = excess / np.maximum(np.abs(judged.expected), 1e-300)
    return int(np.argmax(np.where(judged.outside, np.where(np.isnan(relative), np.inf, relative), -np.inf)))


def _channels(outside: Index, shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    if axis is None or not outside.size or not -len(shape) <= axis < len(shape):
        return ()
    return tuple(int(channel) for channel in np.unique(np.unravel_index(outside, shape)[axis]))
