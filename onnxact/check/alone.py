"""A site -> the same site cut out of both models and run on its own, on special values and both sides of every kink.

before: ... -> x -> [LeakyRelu] -> y -> ...        x = nan, inf, -0, kink, kink +- d, ...
after:  ... -> x -> [Mul, Max]  -> y -> ...        y of after against the reference, and against y of before

Sites that are computed alike in both models are one trial, and many trials are one session for each model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from onnxact.activation.rounding import limits, unit_roundoff
from onnxact.check.accuracy import described, judge
from onnxact.check.allowance import same_value
from onnxact.check.compare import DEFAULT_RTOL
from onnxact.check.placing import Instance, Placed
from onnxact.check.points import constant_points, every_value, ordinary_points, special_points
from onnxact.check.session import RunFailure, open_session, run_session
from onnxact.check.site_evidence import Accuracy, SiteProbe
from onnxact.check.site_part import Part, common_shape, cut_out, joined
from onnxact.check.standard import Standard, Standards
from onnxact.errors import ProviderError

Array = npt.NDArray[Any]

_ELEMENTS_A_TRIAL = 1 << 15
_ELEMENTS_A_SESSION = 1 << 21
_LARGEST_CONSTANT = 1 << 16
_MOST_NUMBERS = 16
"""How many constants of the nodes of one site are tried as inputs."""
ELEM_TYPES = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}


@dataclass(frozen=True)
class Expected:
    """What a site is held against in each place where it is computed; and its dtype."""

    dtype: str
    standards: tuple[Standards, ...] = ()


@dataclass(frozen=True)
class Alone:
    """What a site did on its own: "same", "identical" (the nodes and constants are), "differs: ..." or "not run: ...".

    `elements` went through it. `before` and `after`: against the reference, where the two are not equal to the bit; if
    only signs of zero differ, at these points, which their indices then count. `overflow`: the input nearest to 0 at
    which only the site after is NaN or infinite, where that is no large number for the dtype.
    """

    text: str
    elements: int = 0
    before: Accuracy | None = None
    after: Accuracy | None = None
    notes: tuple[str, ...] = ()
    overflow: str = ""

    @property
    def is_same(self) -> bool:
        """Whether the site was shown to be the same function in both models."""
        return self.is_identical or self.text == "same"

    @property
    def is_identical(self) -> bool:
        """Whether the nodes and constants are the same in both models."""
        return self.text == "identical"


@dataclass(frozen=True)
class Trier:
    """The two models, and how their sites are compared. `exact`: results have to be equal, but for signs of zero."""

    before: Placed
    after: Placed
    provider: str = "cpu"
    exact: bool = False

    def run(self, sites: Mapping[SiteProbe, Expected]) -> dict[SiteProbe, Alone]:
        """Try every site on its own; sites in several places (calls of a function) in each of them."""
        trials: dict[SiteProbe, list[_Trial | Alone]] = {
            probe: list(self._trials(probe, expected)) for probe, expected in sites.items()
        }
        distinct = {item.key: item for items in trials.values() for item in items if isinstance(item, _Trial)}
        found = dict(zip(distinct, self._tried(list(distinct.values())), strict=True))
        return {
            probe: _worst([found[item.key] if isinstance(item, _Trial) else item for item in items])
            for probe, items in trials.items()
        }

    def _trials(self, probe: SiteProbe, expected: Expected) -> Iterator[_Trial | Alone]:
        pairs = self._instances(probe)
        if isinstance(pairs, str):
            yield Alone(f"not run: {pairs}")
            return
        for number, instances in enumerate(pairs):
            parts = [cut_out(instance) for instance in instances]
            problems = [part for part in parts if isinstance(part, str)]
            before, after = parts
            if isinstance(before, str) or isinstance(after, str):
                yield Alone(f"not run: {problems[0]}")
            elif before.key == after.key and self.before.subject.folder == self.after.subject.folder:
                yield Alone("identical")
            else:
                yield _trial(probe, expected.dtype, expected.standards[number], (before, after))

    def _instances(self, probe: SiteProbe) -> list[tuple[Instance, Instance]] | str:
        """The computations of a site in both models, in pairs; or why there are none."""
        if probe.only_in:
            return f"it is in the model {probe.only_in} only"
        dtypes = [item.dtype for item in (probe.before, probe.after) if item is not None and item.dtype]
        if len(set(dtypes)) > 1:
            return f"it is {dtypes[0]} before, {dtypes[1]} after"
        problems = [placed.problems[probe] for placed in (self.before, self.after) if probe in placed.problems]
        if problems:
            return problems[0]
        first, second = (placed.instances.get(probe, ()) for placed in (self.before, self.after))
        if len(first) != len(second):
            return f"it is computed in {len(first)} places before, in {len(second)} after"
        return list(zip(first, second, strict=True)) if first else "nothing calls the function that it is in"

    def _tried(self, trials: Sequence[_Trial]) -> list[Alone]:
        """One session for each model for as many trials as fit; those that fail are tried in halves."""
        found: list[Alone] = []
        for group in _groups(trials):
            found += self._group(group)
        return found

    def _group(self, trials: Sequence[_Trial]) -> list[Alone]:
        results = [self._outputs(placed, trials, number) for number, placed in enumerate((self.before, self.after))]
        before, after = results
        if not isinstance(before, RunFailure) and not isinstance(after, RunFailure):
            return [self._judged(*item) for item in zip(trials, before, after, strict=True)]
        if len(trials) == 1:
            return [_failed(before, after)]
        middle = len(trials) // 2
        return [*self._group(trials[:middle]), *self._group(trials[middle:])]

    def _outputs(self, placed: Placed, trials: Sequence[_Trial], side: int) -> list[Array] | RunFailure:
        subject = joined(
            placed.subject,
            [trial.parts[side] for trial in trials],
            [ELEM_TYPES[trial.x.dtype.name] for trial in trials],
        )
        try:
            session = open_session(subject, self.provider, optimise=False, threads=1)
        except ProviderError as error:
            return RunFailure("run", str(error), of_model=False)
        if isinstance(session, RunFailure):
            return session
        found = run_session(session, {f"x{number}": trial.x for number, trial in enumerate(trials)})
        return found if isinstance(found, RunFailure) else list(found.values())

    def _judged(self, trial: _Trial, before: Array, after: Array) -> Alone:
        x, count = trial.x, trial.x.size
        if before.shape != after.shape or before.dtype != after.dtype:
            text = f"{before.dtype}{list(before.shape)} before, {after.dtype}{list(after.shape)} after"
            return Alone(f"differs: {text}", count)
        if before.tobytes() == after.tobytes():
            return Alone("same", count)
        unequal, signs = ~same_value(before, after), _other_zeros(before, after)
        if not (unequal | signs).any():
            return Alone("same", count)
        if not unequal.any() and x.shape == before.shape:
            # All else has the same bits in both, and is not held against the reference then.
            at = signs.reshape(len(x), -1).any(axis=1)
            x, before, after, unequal = x[at], before[at], after[at], unequal[at]
        own, found = (
            _against(standard, x, y, trial.channel_axis)
            for standard, y in zip(trial.standards, (before, after), strict=True)
        )
        apart = unequal if self.exact or not unequal.any() else unequal & ~_close(x, before, after)
        place = _place(x, before, after, apart) if apart.any() else ""
        if own is None or found is None:
            text = f"differs: {place}" if place else "same"
        else:
            text = _text(trial.standards, own, found, place)
            strict = apart & np.isfinite(x.astype(np.float64))
            if self.exact and text == "same" and strict.any():
                text = f"differs: {_place(x, before, after, strict)}"
        overflow = _overflow(x, before, after) if text == "same" else ""
        return Alone(text, count, own, found, _notes(text, own, found), overflow)


@dataclass(frozen=True)
class _Trial:
    """What is fed into the part of `before` and that of `after`."""

    key: tuple[Any, ...]
    parts: tuple[Part, Part]
    dtype: str
    kinks: tuple[float, ...]
    shape: tuple[int, ...]
    standards: Standards
    channel_axis: int | None

    @cached_property
    def x(self) -> Array:
        """What is fed: [points, *shape]."""
        return _fed(self.kinks, _numbers(self.parts), self.dtype, self.shape)


def _trial(probe: SiteProbe, dtype: str, standards: Standards, parts: tuple[Part, Part]) -> _Trial | Alone:
    before, after = parts
    if foreign := before.foreign or after.foreign:
        return Alone(f"not run: {foreign} is not known to work element by element")
    shape = common_shape(parts)
    if shape is None:
        return Alone("differs: its constants have shapes that do not go together")
    if int(np.prod(shape)) > _LARGEST_CONSTANT:
        return Alone(f"not run: its constants have {int(np.prod(shape))} elements")
    key = (before.key, after.key, dtype, probe.kinks, probe.channel_axis)
    return _Trial(key, parts, dtype, probe.kinks, shape, standards, probe.channel_axis)


def _numbers(parts: tuple[Part, Part]) -> tuple[float, ...]:
    """The constants of both models, those first that are not in both."""
    first, second = (set(part.numbers) for part in parts)
    return tuple(sorted((*sorted(first ^ second), *sorted(first & second))[:_MOST_NUMBERS]))


def _fed(kinks: tuple[float, ...], numbers: tuple[float, ...], dtype: str, shape: tuple[int, ...]) -> Array:
    """The points, each for every element of constants of this shape: [points, *shape]; the special ones come first."""
    width = int(np.prod(shape))
    tail = shape[1:] if shape[:1] == (1,) else shape
    special = special_points(kinks, dtype)
    if numbers:
        special = np.concatenate([special, constant_points(numbers, dtype)])
    if width == 1 and np.dtype(special.dtype).itemsize == 2:
        points = np.concatenate([special, every_value(dtype)])
    else:
        room = max(0, _ELEMENTS_A_TRIAL // width - special.size)
        points = np.concatenate([special, ordinary_points(kinks, dtype)[:room]])
    spread = np.broadcast_to(points.reshape(-1, *(1 for _ in tail)), (points.size, *tail))
    return np.ascontiguousarray(spread)


def _groups(trials: Sequence[_Trial]) -> Iterator[list[_Trial]]:
    """In order, as many trials to a session as fit."""
    group: list[_Trial] = []
    for trial in trials:
        if group and sum(item.x.size for item in group) + trial.x.size > _ELEMENTS_A_SESSION:
            yield group
            group = []
        group.append(trial)
    if group:
        yield group


def _failed(before: list[Array] | RunFailure, after: list[Array] | RunFailure) -> Alone:
    """What does not run on its own may run in its model: that says nothing of the site."""
    failed = [(side, item) for side, item in (("before", before), ("after", after)) if isinstance(item, RunFailure)]
    side, failure = failed[0]
    return Alone(f"not run: {'it' if len(failed) > 1 else f'{side}, it'} {failure}")


def _against(standard: Standard | None, x: Array, y: Array, channel_axis: int | None) -> Accuracy | None:
    """None where nothing is known of the function, or not all parameters: then the two are compared."""
    if standard is None:
        return None
    standard = replace(standard, on_its_own=True, exact=False)
    found = judge(standard, x, y, inputs="on its own", channel_axis=channel_axis)
    return None if found.problem else found


def _close(x: Array, before: Array, after: Array) -> npt.NDArray[np.bool_]:
    """For a site of which nothing is known: the default tolerance of outputs, and two roundings of x."""
    first, second, entered = (item.astype(np.float64) for item in (before, after, x))
    with np.errstate(all="ignore"):
        room = DEFAULT_RTOL[x.dtype.name] * np.abs(first) + 2 * unit_roundoff(x.dtype) * np.abs(entered)
        finite = np.isfinite(first) & np.isfinite(second)
        return np.asarray(finite & (np.abs(second - first) <= room))


def _other_zeros(before: Array, after: Array) -> npt.NDArray[np.bool_]:
    """Where both are zeros, of different sign."""
    return np.asarray((before == 0) & (after == 0) & (np.signbit(before) != np.signbit(after)))


def _overflow(x: Array, before: Array, after: Array) -> str:
    """Where a step on the way to y overflows long before x does: up to the square root of the largest number."""
    room = math.sqrt(float(limits(x.dtype).max))
    x, before, after = (np.broadcast_to(item, after.shape).astype(np.float64) for item in (x, before, after))
    at = np.isfinite(x) & np.isfinite(before) & ~np.isfinite(after) & (np.abs(x) <= room)
    if not at.any():
        return ""
    place = int(np.argmin(np.where(at, np.abs(x), np.inf)))
    entered, was, becomes = (float(item.ravel()[place]) for item in (x, before, after))
    return f"a step of its form overflows: at x = {entered:.9g} it was {was:.9g}, and is {becomes:g}"


def _text(standards: Standards, before: Accuracy, after: Accuracy, apart: str) -> str:
    """What both sides against the reference say. The one that defines it is not another function, only less exact."""
    defining = [found for found, item in zip((before, after), standards, strict=True) if item and item.defines]
    if any(found.is_outside for found in defining):
        return f"differs: {apart}" if apart else "same"
    for side, found in (("after", after), ("before", before)):
        if found.is_outside:
            return f"differs: {side}, {described(found)}"
    return "same"


def _place(x: Array, before: Array, after: Array, differs: npt.NDArray[np.bool_]) -> str:
    """The first place at which the two are unequal, in words."""
    where = np.unravel_index(int(np.argmax(differs)), differs.shape)
    index = [int(axis) for axis in where]
    entered = np.broadcast_to(x, differs.shape)[where]
    return f"at {index}, x = {float(entered):.9g}: {float(before[where]):.9g} before, {float(after[where]):.9g} after"


def _notes(text: str, before: Accuracy | None, after: Accuracy | None) -> tuple[str, ...]:
    """What a form does at special inputs, and says so; of a site that is the same, what is beyond its bound."""
    sides = [(side, found) for side, found in (("before", before), ("after", after)) if found is not None]
    declared = [f"{side}, {text}" for side, found in sides for text in found.declared]
    beyond = [f"{side}, beyond the bound of its form: {described(found)}" for side, found in sides if found.outside]
    return (*declared, *(beyond if text == "same" else ()))


_RANKS = ("differs", "not", "same", "identical")


def _worst(items: Sequence[Alone]) -> Alone:
    """What counts of the computations of one site: a difference before what is not known, before "same"."""
    return min(items, key=lambda item: (_rank(item.text), not item.overflow))


def _rank(text: str) -> int:
    return next(rank for rank, start in enumerate(_RANKS) if text.startswith(start))
