"""(a part of a model, values that were seen to enter it) -> sets of values to try it on.

Those that were seen; made-up ones, as for the inputs of a model, and of these: some equal, some at the constants of the
part, small, large, and far from 0. All lie within what the nodes before the part can give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from onnxact.check.distance import UNIT_ROUNDOFF
from onnxact.check.drawing import moved, near
from onnxact.check.feeding import Recipe, feed_of, make_recipe
from onnxact.check.inputs import NoInputError, is_float
from onnxact.check.interval import ANY, Interval
from onnxact.check.sizes import DEFAULT
from onnxact.errors import UsageError

Array = npt.NDArray[Any]
Values = Mapping[str, Any]

_FEWEST, _MOST = 2, 6
_ENOUGH = 1 << 10
"""How many elements are tried: small tensors in more sets, so that what is rare among them is met."""
_TOO_MANY = 1 << 22
"""Of more elements none are made up: the nodes around large tensors are those of small ones."""
TIES = "rounded to halves"
_LEVEL = 2.0
"""The largest of the values of which many are equal."""
_SMALL, _TINY, _FAR = 1e-3, 1e-6, 100.0
_LARGE: Mapping[str, float] = {"float16": 10.0}
_OTHERWISE_LARGE = 30.0
_HUGE = (1e3, 1e10)
"""Beyond the integer types, for ops that round nothing."""


@dataclass(frozen=True)
class PartFeeds:
    """`model` is the part, `seen` what enters it, `possible` what can, by name. `kept`: what is as it was seen.

    `numbers` are the constants of the part. `exact`: its ops round nothing, so that any magnitude tells something.
    """

    model: ModelProto
    seen: Values
    possible: Mapping[str, Interval]
    kept: frozenset[str] = frozenset()
    numbers: tuple[float, ...] = ()
    exact: bool = False

    def __iter__(self) -> Iterator[tuple[str, Values]]:
        """Each set with what it is, in words."""
        yield "values of a run", self.seen
        count = sum(np.size(value) for value in self.seen.values())
        if not self.seen or count > _TOO_MANY:
            return
        for seed in range(min(max(_ENOUGH // max(count, 1), _FEWEST), _MOST)):
            made = self._made(seed)
            if made is None:
                return
            yield f"made-up values {seed}", self._within({**self.seen, **made})
            drawn = {name: value for name, value in made.items() if is_float(value)}
            for how, change in self._changes(seed) if drawn else ():
                changed = {name: change(value) for name, value in drawn.items()}
                yield f"made-up values {seed}, {how}", self._within({**self.seen, **changed})

    def _changes(self, seed: int) -> Iterator[tuple[str, Callable[[Array], Array]]]:
        yield TIES, lambda value: np.clip(np.rint(2 * value) / 2, -_LEVEL, _LEVEL).astype(value.dtype)
        for number in self.numbers:
            yield f"about {number:g}", lambda value, number=number: near(value, number, seed % 3)  # type: ignore[misc]
        yield "small", lambda value: moved(value, _SMALL, 0.0)
        yield "tiny", lambda value: moved(value, _TINY, 0.0)
        yield "large", lambda value: moved(value, _LARGE.get(value.dtype.name, _OTHERWISE_LARGE), 0.0)
        yield "far from 0", lambda value: moved(value, 1.0, _FAR)
        for factor in _HUGE if self.exact else ():
            yield f"times {factor:g}", lambda value, factor=factor: moved(value, factor, 0.0)  # type: ignore[misc]

    def _made(self, seed: int) -> Values | None:
        """None where nothing can be made up."""
        try:
            feed = feed_of(self._recipe, seed, DEFAULT)
        except (NoInputError, UsageError):
            return None
        return {name: value for name, value in feed.values.items() if name not in self.kept | feed.steering}

    @cached_property
    def _recipe(self) -> Recipe:
        names = {value.name for value in self.model.graph.input} - self.kept
        return make_recipe(
            self.model,
            seeds=(0,),
            input_shapes={name: np.shape(self.seen[name]) for name in names},
            inputs={name: self.seen[name] for name in self.kept} or None,
            val_range=None,
        )

    def _within(self, values: Values) -> Values:
        return {name: _held(value, self.possible.get(name, ANY)) for name, value in values.items()}


def nudged(values: Values) -> Values:
    """The same, every floating element by one rounding up or down."""
    rng = np.random.default_rng(0)
    return {name: _nudged(rng, value) if is_float(value) else value for name, value in values.items()}


def _nudged(rng: np.random.Generator, value: Array) -> Array:
    unit = 2 * UNIT_ROUNDOFF[value.dtype.name]
    signs = np.where(rng.random(value.shape) < 0.5, -unit, unit)
    with np.errstate(all="ignore"):
        return np.asarray((value.astype(np.float64) * (1 + signs)).astype(value.dtype))


def _held(value: Any, possible: Interval) -> Any:
    if not is_float(value) or possible == ANY:
        return value
    return np.clip(value.astype(np.float64), possible.low, possible.high).astype(value.dtype)
