"""(model, seeds, what the caller gave) -> the sets of inputs to run on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any

from onnx import GraphProto, ModelProto

from onnxact.arguments import mapping
from onnxact.check.drawing import FREE, Limits, ValRange, as_limits
from onnxact.check.given import demand_known, demand_shapes, fitted, remarks
from onnxact.check.graph import required_inputs
from onnxact.check.inputs import Feed, Source, array_shapes, made_feed, truths
from onnxact.check.readers import Readers
from onnxact.check.session import RunFailure, Session, runs
from onnxact.check.sizes import (
    DEFAULT,
    Guess,
    Shape,
    contradictions,
    find_sizes,
    first_choices,
    guesses,
    is_open,
    other_choices,
)
from onnxact.check.stored_inputs import demand_place_for_inputs, save_inputs
from onnxact.errors import UsageError
from onnxact.words import counted

Given = Mapping[str, Any] | Sequence[Mapping[str, Any] | Feed]
"""One set of inputs by name, or several."""

DEFAULT_SEEDS = (0, 1)
_TRUTHS = 8
"""Seeds among which other combinations of truth values are looked for: eight in a row have all those of three."""


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

    @cached_property
    def _sources(self) -> dict[Guess, Source]:
        return {}

    def source(self, guess: Guess) -> Source:
        """What a set of inputs is made from, but for the seed; what it finds out about the model is kept."""
        return self._sources.setdefault(guess, Source(self.readers, self.shapes, self.limits, guess))

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs that a set has to have."""
        return tuple(value.name for value in self.readers.required)

    @property
    def missing(self) -> tuple[str, ...]:
        """The inputs that have to be made up in some set."""
        return tuple(name for name in self.names if not all(name in feed.values for feed in self.given))

    @property
    def complete(self) -> bool:
        """Whether the caller gave every input of every set, so that there is nothing to vary."""
        return not self.missing

    @property
    def shared(self) -> bool:
        """Whether the caller's sets of inputs, and not the seeds, tell how many there are."""
        return len(self.given) > 1 or self.complete

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

    The first seed has one assignment of sizes, the others another one where the model takes two. Where nothing runs,
    those of the first guess. Raises what make_inputs raises.
    """
    known = tuple(_remarks(recipe))
    options = guesses(recipe.readers.required, recipe.shapes_known)
    is_open = len(options) > 1
    if not is_open and not recipe.source(DEFAULT).has_large_integers:
        return Feeding(_feeds(recipe, DEFAULT), DEFAULT, known)
    for guess in _tried(recipe, options):
        found = _assigned(recipe, guess, session) if isinstance(session, Session) else None
        if found is not None:
            said = (_assumed(recipe, found, guess),) if is_open else ()
            return Feeding(found, guess, (*known, *said))
    tried = f"tried {len(options)} guesses of open dimensions, none runs; give --input-shapes"
    return Feeding(_feeds(recipe, DEFAULT), DEFAULT, (*known, *((tried,) if is_open else ())))


def _tried(recipe: Recipe, options: Sequence[Guess]) -> Iterator[Guess]:
    """Guesses in the order in which they are tried, none twice that comes to the same shapes."""
    for option in options:
        seen: set[tuple[object, ...]] = set()
        for guess in first_choices(option) if len(options) > 1 else (option,):
            shapes = tuple(_shapes(recipe, guess).items())
            if shapes not in seen:
                seen.add(shapes)
                yield guess
                if recipe.source(guess).has_large_integers:
                    yield replace(guess, small=True)


def _shapes(recipe: Recipe, guess: Guess) -> Mapping[str, Shape]:
    return find_sizes(recipe.readers.required, recipe.shapes_known, guess).shapes


def _assigned(recipe: Recipe, guess: Guess, session: Session) -> tuple[Feed, ...] | None:
    """The sets of inputs for a guess, all but the first with other sizes where the model takes them; None: none run."""
    if recipe.shared:
        given = _all_run(session, _feeds(recipe, guess))
        return None if given is None else tuple(given)
    first = feed_of(recipe, recipe.seeds[0], guess)
    if not runs(session, first.values):
        return None
    feeds = _by_seed(recipe, guess, {recipe.seeds[0]: first})
    sized = _shapes(recipe, guess)
    for other in other_choices(guess) if len(feeds) > 1 else ():
        if _shapes(recipe, other) != sized:
            others = _all_run(session, (feed_of(recipe, seed, other) for seed in list(feeds)[1:]))
            if others is not None:
                return (first, *others)
    others = _all_run(session, list(feeds.values())[1:])
    return None if others is None else (first, *others)


def _all_run(session: Session, feeds: Iterable[Feed]) -> list[Feed] | None:
    """The sets of inputs, up to the first that the model does not run on: then None."""
    found: list[Feed] = []
    for feed in feeds:
        if not runs(session, feed.values):
            return None
        found.append(feed)
    return found


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
    is_given = any(feed.values for feed in recipe.given)
    if is_given and recipe.shared and recipe.seeds[1:] and recipe.seeds != DEFAULT_SEEDS:
        given = "all inputs are given" if recipe.complete else f"there are {len(recipe.given)} sets of given inputs"
        yield f"{counted(len(recipe.seeds), 'seed')} make no further sets of inputs, since {given}"
    if recipe.missing and is_given:
        yield f"made up, since they were not given: {', '.join(recipe.missing)}"
    yield from contradictions(recipe.readers.required, recipe.shapes_known)


def _label(number: int, count: int) -> str:
    return "given inputs" if count == 1 else f"given inputs {number + 1}"


def _assumed(recipe: Recipe, feeds: Sequence[Feed], guess: Guess) -> str:
    """The shapes that hold a guess, in words; of the first set of inputs, and of the others where those differ."""
    values = [value for value in recipe.readers.required if is_open(value, recipe.shapes_known)]
    texts = []
    for feed in feeds:
        arrays = ((value.name, feed.values[value.name]) for value in values)
        texts.append(", ".join(f"{name} {list(array.shape)}" for name, array in arrays if hasattr(array, "shape")))
    several = ", then ".join(dict.fromkeys(text for text in texts if text))
    return f"shapes assumed for open dimensions: {several or guess}"


def _feeds(recipe: Recipe, guess: Guess) -> tuple[Feed, ...]:
    """One set a seed; where the caller gave several sets or all inputs, one a set."""
    if recipe.shared:
        source = recipe.source(guess)
        return tuple(
            replace(made_feed(source, recipe.seeds[0], feed.values), label=feed.label) for feed in recipe.given
        )
    return tuple(_by_seed(recipe, guess, {}).values())


def _by_seed(recipe: Recipe, guess: Guess, made: Mapping[int, Feed]) -> dict[int, Feed]:
    """The sets of inputs that no caller gave, by their seeds; `made` already."""
    feeds = {seed: made.get(seed) or feed_of(recipe, seed, guess) for seed in recipe.seeds}
    feeds |= _other_truths(recipe, guess, feeds)
    feeds |= _large_alone(recipe, guess, feeds)
    return feeds


def _large_alone(recipe: Recipe, guess: Guess, feeds: Mapping[int, Feed]) -> Iterator[tuple[int, Feed]]:
    """Further seeds for single integers that nothing limits: those that make them large, below 0 and above it."""
    if not recipe.source(guess).lone_integers(recipe.given[0].values):
        return
    for rest in sorted({1, 3} - {seed % 4 for seed in feeds}):
        seed = next(seed for seed in count(max(feeds) + 1) if seed % 4 == rest)
        yield seed, feed_of(recipe, seed, guess)


def _other_truths(recipe: Recipe, guess: Guess, feeds: Mapping[int, Feed]) -> Iterator[tuple[int, Feed]]:
    """Further seeds with combinations of single truth values that are not among `feeds`: all of a few, else some."""
    seen = {truths(feed.values) for feed in feeds.values()}
    if seen == {()}:
        return
    last = max(recipe.seeds)
    for seed in range(last + 1, last + 1 + _TRUTHS):
        feed = feed_of(recipe, seed, guess)
        if truths(feed.values) not in seen:
            seen.add(truths(feed.values))
            yield seed, feed


def feed_of(recipe: Recipe, seed: int, guess: Guess) -> Feed:
    """The set of inputs of one seed."""
    return made_feed(recipe.source(guess), seed, recipe.given[0].values)
