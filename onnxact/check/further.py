"""(what inputs are made from) -> a stock of further sets, for what the plain ones do not reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from onnxact.check.conditions import Thresholds, thresholds
from onnxact.check.drawing import moved, near
from onnxact.check.feeding import Recipe, feed_of
from onnxact.check.inputs import Feed, is_float, made_feed
from onnxact.check.sizes import Guess, Shape, find_sizes

# (scale, shift) of the floating inputs, for sites that the plain inputs do not reach: the other sign, other
# magnitudes, inputs of one sign.
_VARIATIONS = ((-1.0, 0.0), (10.0, 0.0), (0.1, 0.0), (1.0, 3.0), (1.0, -3.0), (100.0, 0.0), (0.01, 0.0), (1000.0, 0.0))
_FURTHER_SEEDS = 6
_MOST_ELEMENTS = 1 << 20
"""Of all inputs together, where dimensions are given other sizes."""


def further_feeds(recipe: Recipe, guess: Guess, compared: Thresholds | None = None) -> Iterator[Feed]:
    """More seeds; the first seeds scaled, shifted, moved to each side of what conditions compare with, and set to it;
    other sizes. `compared` is what they compare with, None for what decides bodies of the model.

    Nothing where the caller gave every input.
    """
    if recipe.complete:
        return
    last = max(recipe.seeds)
    for seed in range(last + 1, last + 1 + _FURTHER_SEEDS):
        yield feed_of(recipe, seed, guess)
    compared = thresholds(recipe.model) if compared is None else compared
    moves = [(1.0, shift) for shift in compared.shifts] + [(scale, 0.0) for scale in compared.scales]
    plain = [feed_of(recipe, seed, guess) for seed in recipe.seeds]
    for scale, shift in (*_VARIATIONS, *moves):
        yield from (_varied(recipe, feed, scale, shift) for feed in plain)
    for number in compared.numbers:
        yield from (_set_to(recipe, guess, number, turn) for turn in range(3))
    for size in compared.sizes:
        yield _resized(recipe, replace(guess, first=size, other=size, apart=0))


def sized_feeds(recipe: Recipe, guess: Guess, sizes: Sequence[int]) -> Iterator[Feed]:
    """Every open dimension is 1, then the first one of every input alone: what a size of 1 hides or makes special. Then
    every open dimension but the first has one of these sizes, then the first one has it. No inputs of very many
    elements.
    """
    if recipe.complete:
        return
    options = [replace(guess, first=1, other=1, shape=(1, 1), apart=0), replace(guess, first=1, apart=0)]
    for size in sizes:
        options += [replace(guess, other=size, apart=0), replace(guess, first=size, apart=0)]
    seen = [_shapes(recipe, guess)]
    for option in options:
        shapes = _shapes(recipe, option)
        if shapes not in seen and sum(map(math.prod, shapes.values())) <= _MOST_ELEMENTS:
            seen.append(shapes)
            yield _resized(recipe, option)


def _shapes(recipe: Recipe, guess: Guess) -> Mapping[str, Shape]:
    return find_sizes(recipe.readers.required, recipe.shapes_known, guess).shapes


def _resized(recipe: Recipe, guess: Guess) -> Feed:
    return replace(
        feed_of(recipe, recipe.seeds[0], guess), label=f"seed {recipe.seeds[0]}, open dimensions {_sizes(guess)}"
    )


def _sizes(guess: Guess) -> str:
    return f"{guess.first}" if guess.first == guess.other else f"{guess.first}, then {guess.other}"


def _set_to(recipe: Recipe, guess: Guess, number: float, turn: int) -> Feed:
    """Some elements are `number`, or next to it in their type; of a single one, `turn` tells which."""
    seed = 2 * (max(recipe.seeds) // 2 + 1 + turn)
    low = math.floor(number)
    whole = (low, low + 1, low - 1)[turn]
    made = made_feed(replace(recipe.source(guess), choices=(whole,)), seed, recipe.given[0].values)
    fixed = made.steering.union(recipe.given[0].values)
    values = {
        name: near(value, number, turn, recipe.limits.of(name)) if is_float(value) and name not in fixed else value
        for name, value in made.values.items()
    }
    return Feed(f"{made.label}, some of it about {number:g}", values, made.steering)


def _varied(recipe: Recipe, feed: Feed, scale: float, shift: float) -> Feed:
    """Given values are the caller's and stay, and so does what steers a node; limits hold."""
    fixed = feed.steering.union(recipe.given[0].values)
    values = {
        name: moved(value, scale, shift, recipe.limits.of(name)) if is_float(value) and name not in fixed else value
        for name, value in feed.values.items()
    }
    label = f"{feed.label} times {scale:g}" if shift == 0 else f"{feed.label} plus {shift:g}"
    return Feed(label, values, feed.steering)
