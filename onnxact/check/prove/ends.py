"""The end of a tensor: a sample of inputs, one at a time, where a kernel cannot compute several at once.

A kernel takes most of a tensor in vectors and the last few values one by one, by other instructions and for some ops
another approximation (Eigen's Log, Tanh and Elu in ONNX Runtime 1.31). A proof in long calls says nothing of these; to
try every input in a call of its own would take a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxact.activation.primitives import Array
from onnxact.check.prove.engine import Engine
from onnxact.check.prove.judge import Chunk, judge
from onnxact.check.prove.model import Subject
from onnxact.check.prove.patterns import SEED, Space
from onnxact.check.prove.running import Contest
from onnxact.check.prove.tally import Tally

TRIED = 2048
_BEND = 20.0
"""Half of the sample lies between -20 and 20, where the functions bend; the other half has every exponent."""


@dataclass(frozen=True)
class Ends:
    """`moved`: form -> at how many of the `tried` inputs the bits are not those of a long call. `tallies`: judged."""

    tried: int
    moved: Mapping[str, int]
    tallies: Mapping[str, Tally]


class _Recorded:
    """An engine whose outputs are there already."""

    def __init__(self, patterns: Array, outputs: Sequence[Array]) -> None:
        self.length = patterns.size
        self._patterns, self._outputs = patterns, outputs

    def input(self) -> Array:
        """Return the patterns, [length]."""
        return self._patterns

    def output(self, index: int) -> Array:
        """Return what a form made of them, [lanes, length]."""
        return self._outputs[index]


def sample(space: Space) -> Array:
    """Return the inputs that are tried one at a time."""
    strata = space.sample()
    draws = np.random.default_rng(SEED).uniform(-_BEND, _BEND, TRIED // 2)
    return np.concatenate([strata[:: -(-strata.size // (TRIED // 2))], space.patterns(draws)])


def try_ends(subject: Subject, contests: Mapping[str, Contest], outputs: int, short: Engine, long: Engine) -> Ends:
    """Return what a sample gives in calls of one value, by `short`, next to one call of many, by `long`."""
    patterns = sample(Space(subject.dtype))
    found = [np.zeros((max(subject.lanes, 1), patterns.size), patterns.dtype) for _ in range(outputs)]
    for place in range(patterns.size):
        short.load(patterns[place : place + 1])
        short.run()
        for index, column in enumerate(found):
            column[:, place] = short.output(index)[:, 0]
    long.load(patterns)
    long.run()
    moved = {name: _moved(subject, found[c.form.output], long.output(c.form.output)) for name, c in contests.items()}
    chunk = Chunk(subject, _Recorded(patterns, found), patterns.size)
    with np.errstate(all="ignore"):
        tallies = {name: judge(chunk, *contest) for name, contest in contests.items()}
    return Ends(patterns.size, moved, tallies)


def _moved(subject: Subject, alone: Array, together: Array) -> int:
    space, among = Space(subject.dtype), together[:, : alone.shape[1]]
    return int(np.count_nonzero((alone != among) & ~(space.is_nan(alone) & space.is_nan(among))))
