"""(model, seeds, what the caller gave) -> the sets of inputs to run on, and a stock of further ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from onnx import GraphProto, ModelProto

from onnxact.arguments import mapping
from onnxact.check.conditions import thresholds
from onnxact.check.drawing import FREE, Limits, ValRange, as_limits, moved
from onnxact.check.given import demand_known, demand_shapes, fitted, remarks
from onnxact.check.graph import required_inputs
from onnxact.check.inputs import Feed, Source, array_shapes, is_float, made_feed
from onnxact.check.readers import Readers
from onnxact.check.session import RunFailure, Session, run_session
from onnxact.check.sizes import DEFAULT, Guess, Shape, contradictions, guesses, is_open
from onnxact.check.stored_inputs import demand_place_for_inputs, save_inputs
from onnxact.errors import UsageError

Given = Mapping[str, Any] | Sequence[Mapping[str, Any] | Feed]
"""One set of inputs by name, or several."""

# (scale, shift) of the floating inputs, for sites that the plain inputs do not reach: the other sign, other
# magnitudes, inputs of one sign.
_VARIATIONS = ((-1.0, 0.0), (10.0, 0.0), (0.1, 0.0), (1.0, 3.0), (1.0, -3.0), (100.0, 0.0), (0.01, 0.0), (1000.0, 0.0))
_FURTHER_SEEDS = 6


@dataclass(frozen=True)
class Recipe:
    """What every set of inputs of one check is made from, and where they are saved.

    `given`: at least one set of values that replace made-up ones by name, as ONNX Runtime takes them. `limits` hold
    for the others.
    """

    model: ModelProto
    seeds: tuple[int, ...]
    shapes: Mapping[str, Shape]
    given: tuple[Feed, ...]
    limits: Limits = FREE
    save_to: str | os.PathLike[str] | None = None

    @cached_property
    def readers(self) -> Readers:
        """The model, indexed."""
        return Readers(self.model)

    @property
    def missing(self) -> tuple[str, ...]:
        """The inputs that have to be made up in some set."""
        needed = [value.name for value in required_inputs(self.model.graph)]
        return tuple(name for name in needed if not all(name in feed.values for feed in self.given))

    @property
    def complete(self) -> bool:
        """Whether the caller gave every input of every set, so that there is nothing to vary."""
        return not self.missing

    @property
    def shapes_known(self) -> dict[str, Shape]:
        """Shapes that are asked for or come with a given value."""
        return {**array_shapes(self.given[0].values), **self.shapes}


@dataclass(frozen=True)
class Feeding:
    """The sets of inputs, and the guess that they were made with; `assumed` says what a reader has to know of them."""

    feeds: tuple[Feed, ...]
    guess: Guess
    assumed: tuple[str, ...] = ()


def make_recipe(
    model: ModelProto,
    *,
    seeds: Sequence[int],
    input_shapes: Mapping[str, Sequence[int]] | None,
    inputs: Given | None,
    val_range: ValRange | None,
    save_to: str | os.PathLike[str] | None = None,
) -> Recipe:
    """What a caller asks for, looked at before anything runs.

    Raises UsageError for what does not fit the model, FileConflictError where something else lies at `save_to`.
    """
    shapes = {name: tuple(shape) for name, shape in mapping("input_shapes", input_shapes).items()}
    limits = as_limits(val_range)
    demand_known(model.graph, [*shapes, *limits.names])
    demand_shapes(model.graph, shapes)
    if save_to is not None:
        demand_place_for_inputs(save_to)
    return Recipe(model, tuple(seeds), shapes, _sets(model.graph, inputs), limits, save_to)


def save_feeds(recipe: Recipe, feeds: Sequence[Feed]) -> None:
    """Write what is run on where the caller wants it, if he does."""
    if recipe.save_to is not None:
        save_inputs(recipe.save_to, feeds)


def find_feeds(recipe: Recipe, session: Session | RunFailure) -> Feeding:
    """The inputs of every seed, with the first guess of open dimensions on which `session` runs for all of them.

    Where none runs, those of the first guess. Raises what make_inputs raises.
    """
    options = guesses(recipe.model.graph, recipe.shapes_known)
    known = tuple(_remarks(recipe))
    if len(options) == 1:
        return Feeding(_feeds(recipe, DEFAULT), DEFAULT, known)
    for guess in options if isinstance(session, Session) else ():
        feeds = _feeds(recipe, guess)
        if _runs(session, feeds):
            return Feeding(feeds, guess, (*known, _assumed(recipe, feeds[0], guess)))
    tried = f"tried {len(options)} guesses of open dimensions, none runs; give --input-shapes"
    return Feeding(_feeds(recipe, DEFAULT), DEFAULT, (*known, tried))


def further_feeds(recipe: Recipe, guess: Guess) -> Iterator[Feed]:
    """More seeds; the first seeds scaled, shifted, and moved to each side of what conditions compare with; other sizes.

    Nothing where the caller gave every input.
    """
    if recipe.complete:
        return
    last = max(recipe.seeds)
    for seed in range(last + 1, last + 1 + _FURTHER_SEEDS):
        yield _feed(recipe, seed, guess)
    compared = thresholds(recipe.model)
    for scale, shift in (*_VARIATIONS, *((1.0, shift) for shift in compared.shifts)):
        for seed in recipe.seeds:
            yield _varied(recipe, _feed(recipe, seed, guess), scale, shift)
    for size in compared.sizes:
        yield _resized(recipe, replace(guess, first=size, other=size))


def _sets(graph: GraphProto, inputs: Given | None) -> tuple[Feed, ...]:
    """What a caller gives, as ONNX Runtime takes it; one empty set for nothing."""
    if not isinstance(inputs, (Mapping, Sequence, type(None))):
        raise UsageError(f"inputs: expected a mapping from names to values, or several, not {inputs!r}")
    given: Sequence[Any] = [inputs] if isinstance(inputs, Mapping) else list(inputs or [{}])
    feeds = [item if isinstance(item, Feed) else Feed(_label(i, len(given)), item) for i, item in enumerate(given)]
    return tuple(replace(feed, values=_fitted(graph, feed)) for feed in feeds)


def _fitted(graph: GraphProto, feed: Feed) -> dict[str, Any]:
    """A file has to hold every input, so that what is run is what it holds."""
    if not feed.origin:
        return fitted(graph, feed.values)
    missing = [value.name for value in required_inputs(graph) if value.name not in feed.values]
    if missing:
        raise UsageError(f"{feed.origin} has no value for input {', '.join(missing)}; it has {', '.join(feed.values)}")
    try:
        return fitted(graph, feed.values)
    except UsageError as error:
        raise UsageError(f"{feed.origin}: {error}") from error


def _remarks(recipe: Recipe) -> Iterator[str]:
    for feed in recipe.given:
        several = f" ({feed.label})" if len(recipe.given) > 1 else ""
        yield from (f"{text}{several}" for text in remarks(feed.values))
    if recipe.missing and any(feed.values for feed in recipe.given):
        yield f"made up, since they were not given: {', '.join(recipe.missing)}"
    yield from contradictions(required_inputs(recipe.model.graph), recipe.shapes_known)


def _label(number: int, count: int) -> str:
    return "given inputs" if count == 1 else f"given inputs {number + 1}"


def _assumed(recipe: Recipe, feed: Feed, guess: Guess) -> str:
    """The shapes that hold a guess, in words."""
    values = (value for value in required_inputs(recipe.model.graph) if is_open(value, recipe.shapes_known))
    arrays = ((value.name, feed.values[value.name]) for value in values)
    shapes = [f"{name} {list(array.shape)}" for name, array in arrays if hasattr(array, "shape")]
    return f"shapes assumed for open dimensions: {', '.join(shapes) or guess}"


def _runs(session: Session | RunFailure, feeds: tuple[Feed, ...]) -> bool:
    if isinstance(session, RunFailure):
        return False
    return not any(isinstance(run_session(session, feed.values), RunFailure) for feed in feeds)


def _feeds(recipe: Recipe, guess: Guess) -> tuple[Feed, ...]:
    """One set a seed; where the caller gave several sets or all inputs, one a set."""
    if len(recipe.given) > 1 or recipe.complete:
        source = _source(recipe, guess)
        return tuple(
            replace(made_feed(source, recipe.seeds[0], feed.values), label=feed.label) for feed in recipe.given
        )
    return tuple(_feed(recipe, seed, guess) for seed in recipe.seeds)


def _feed(recipe: Recipe, seed: int, guess: Guess) -> Feed:
    return made_feed(_source(recipe, guess), seed, recipe.given[0].values)


def _source(recipe: Recipe, guess: Guess) -> Source:
    return Source(recipe.readers, recipe.shapes, recipe.limits, guess)


def _resized(recipe: Recipe, guess: Guess) -> Feed:
    return replace(
        _feed(recipe, recipe.seeds[0], guess), label=f"seed {recipe.seeds[0]}, open dimensions {guess.other}"
    )


def _varied(recipe: Recipe, feed: Feed, scale: float, shift: float) -> Feed:
    """Given values are the caller's and stay, and so does what steers a node; limits hold."""
    fixed = feed.steering.union(recipe.given[0].values)
    values = {
        name: moved(value, scale, shift, recipe.limits.of(name)) if is_float(value) and name not in fixed else value
        for name, value in feed.values.items()
    }
    label = f"{feed.label} times {scale:g}" if shift == 0 else f"{feed.label} plus {shift:g}"
    return Feed(label, values, feed.steering)
