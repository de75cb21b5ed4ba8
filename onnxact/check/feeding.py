"""(model, seeds, what the caller gave) -> the sets of inputs to run on, and a stock of further ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from onnxact.check.graph import required_inputs
from onnxact.check.inputs import Feed, is_float, make_inputs, moved
from onnxact.check.session import RunFailure, Session, run_session
from onnxact.check.sizes import DEFAULT, Guess, Shape, guesses, is_open

# (scale, shift) of the floating inputs, for sites that the plain inputs do not reach: the other sign, other
# magnitudes, inputs of one sign.
_VARIATIONS = ((-1.0, 0.0), (10.0, 0.0), (0.1, 0.0), (1.0, 3.0), (1.0, -3.0), (100.0, 0.0), (0.01, 0.0), (1000.0, 0.0))
_FURTHER_SEEDS = 6


@dataclass(frozen=True)
class Recipe:
    """What every set of inputs of one check is made from."""

    model: ModelProto
    seeds: tuple[int, ...]
    shapes: Mapping[str, Shape]
    given: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether the caller gave every input, so that there is one set and nothing to vary."""
        return all(value.name in self.given for value in required_inputs(self.model.graph))

    @property
    def shapes_known(self) -> dict[str, Shape]:
        """Shapes that are asked for or come with a given value."""
        return {**{name: value.shape for name, value in self.given.items() if hasattr(value, "shape")}, **self.shapes}


@dataclass(frozen=True)
class Feeding:
    """The sets of inputs, and the guess that they were made with; `assumed` says it where there was one."""

    feeds: tuple[Feed, ...]
    guess: Guess
    assumed: tuple[str, ...] = ()


def find_feeds(recipe: Recipe, session: Session | RunFailure) -> Feeding:
    """The inputs of every seed, with the first guess of open dimensions on which `session` runs for all of them.

    Where none runs, those of the first guess. Raises what make_inputs raises.
    """
    options = guesses(recipe.model.graph, recipe.shapes_known)
    if len(options) == 1:
        return Feeding(_feeds(recipe, DEFAULT), DEFAULT)
    for guess in options if isinstance(session, Session) else ():
        feeds = _feeds(recipe, guess)
        if _runs(session, feeds):
            return Feeding(feeds, guess, (_assumed(recipe, feeds[0], guess),))
    return Feeding(_feeds(recipe, DEFAULT), DEFAULT, (f"tried {len(options)} guesses of open dimensions, none runs",))


def further_feeds(recipe: Recipe, guess: Guess) -> Iterator[Feed]:
    """More seeds, then the first seeds scaled and shifted; nothing where the caller gave every input."""
    if recipe.complete:
        return
    last = max(recipe.seeds)
    for seed in range(last + 1, last + 1 + _FURTHER_SEEDS):
        yield _feed(recipe, seed, guess)
    for scale, shift in _VARIATIONS:
        for seed in recipe.seeds:
            yield _varied(recipe, _feed(recipe, seed, guess), scale, shift)


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
    if recipe.complete:
        return (Feed("given inputs", _made(recipe, 0, guess)),)
    return tuple(_feed(recipe, seed, guess) for seed in recipe.seeds)


def _feed(recipe: Recipe, seed: int, guess: Guess) -> Feed:
    return Feed(f"seed {seed}", _made(recipe, seed, guess))


def _made(recipe: Recipe, seed: int, guess: Guess) -> dict[str, Any]:
    return make_inputs(recipe.model, seed=seed, input_shapes=recipe.shapes, given=recipe.given, guess=guess)


def _varied(recipe: Recipe, feed: Feed, scale: float, shift: float) -> Feed:
    """Given values are the caller's and stay."""
    made = {name: value for name, value in feed.values.items() if name not in recipe.given and is_float(value)}
    label = f"{feed.label} times {scale:g}" if shift == 0 else f"{feed.label} plus {shift:g}"
    return Feed(label, {**feed.values, **moved(made, scale, shift)})
