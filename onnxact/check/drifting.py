"""(before, after) -> how far the outputs move: for a swap, which changes what a model computes. No verdict."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.check.compare import leaves
from onnxact.check.distance import UNIT_ROUNDOFF
from onnxact.check.drawing import ValRange
from onnxact.check.feeding import Given, find_feeds, make_recipe
from onnxact.check.inputs import Feed, NoInputError
from onnxact.check.providers import resolve_providers
from onnxact.check.session import Outputs, RunFailure, Session, open_session, run_session
from onnxact.check.subject import Source, open_subject

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class OutputDrift:
    """One output over all inputs. `scale`: root mean square of the finite elements of `before`.

    `mean_abs` and `max_abs` are of |after - before|; `relative` is mean_abs / scale. For outputs that are not floating,
    `changed` alone counts; it is the share of elements that are not equal.
    """

    name: str
    changed: float
    max_abs: float = 0.0
    mean_abs: float = 0.0
    scale: float = 0.0

    @property
    def relative(self) -> float:
        """mean_abs as a share of the output's scale; 0 where nothing moved."""
        if self.mean_abs == 0:
            return 0.0
        return self.mean_abs / self.scale if self.scale else float("inf")


@dataclass(frozen=True)
class Drift:
    """The movement of every output that both models gave; `reasons` say what could not be measured."""

    outputs: tuple[OutputDrift, ...]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def drift(
    before: Source,
    after: Source,
    *,
    provider: str = "cpu",
    inputs: Given | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    val_range: ValRange | None = None,
    seeds: Sequence[int] = (0, 1),
    folder: str | os.PathLike[str] | None = None,
) -> Drift:
    """Run both on the same inputs, optimisation off, and measure. Raises as check does."""
    name = resolve_providers([provider]).names[0]
    pair = open_subject(before, folder=folder), open_subject(after, folder=folder)
    recipe = make_recipe(pair[0].model, seeds=seeds, input_shapes=input_shapes, inputs=inputs, val_range=val_range)
    first, second = (open_session(subject, name, optimise=False) for subject in pair)
    try:
        feeding = find_feeds(recipe, first)
    except NoInputError as error:
        return Drift((), (str(error),))
    results = [(_result(first, feed), _result(second, feed)) for feed in feeding.feeds]
    ran = [(one, other) for one, other in results if isinstance(one, dict) and isinstance(other, dict)]
    return Drift(_drifts(ran), tuple(dict.fromkeys(_failures(results))), feeding.assumed)


def _result(session: Session | RunFailure, feed: Feed) -> Outputs | RunFailure:
    return session if isinstance(session, RunFailure) else run_session(session, feed.values)


def _failures(results: Sequence[tuple[Outputs | RunFailure, Outputs | RunFailure]]) -> Iterator[str]:
    for both in results:
        for which, result in zip(("before", "after"), both, strict=True):
            if isinstance(result, RunFailure):
                yield f"{which} {result}"


def _drifts(results: Sequence[tuple[Outputs, Outputs]]) -> tuple[OutputDrift, ...]:
    gathered: dict[str, list[tuple[Array, Array]]] = {}
    for first, second in results:
        others = {path: array for name, value in second.items() for path, array in leaves(name, value)}
        for path, array in (leaf for name, value in first.items() for leaf in leaves(name, value)):
            other = others.get(path)
            if array is not None and other is not None and other.shape == array.shape:
                gathered.setdefault(path, []).append((array, other))
    return tuple(_drift_of(path, pairs) for path, pairs in gathered.items())


def _drift_of(path: str, pairs: Sequence[tuple[Array, Array]]) -> OutputDrift:
    before, after = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in range(2))
    changed = float(np.mean(before != after)) if before.size else 0.0
    if before.dtype.name not in UNIT_ROUNDOFF:
        return OutputDrift(path, changed)
    finite = np.isfinite(before) & np.isfinite(after)
    first, second = before[finite].astype(np.float64), after[finite].astype(np.float64)
    if not first.size:
        return OutputDrift(path, changed)
    distance = np.abs(second - first)
    scale = float(np.sqrt(np.mean(np.square(first))))
    return OutputDrift(path, changed, float(distance.max()), float(distance.mean()), scale)
