"""integer graph input -> the values that keep what reads it within its bounds.

x into Gather(table [30522, 768], x) gives 0..30521; x into Equal(x, 16000) gives the choice 16000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from onnx import ModelProto

from onnxact.check.graph import integer
from onnxact.check.readers import Readers, Use

UNLIMITED = 1 << 31
_INDICES_FROM_THE_END = 11
"""The operator set from which indices may be negative."""
COMPARISONS = frozenset({"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"})


@dataclass(frozen=True)
class Range:
    """Low and high, both included; `choices` are single values that the model compares the input with."""

    low: int = -UNLIMITED
    high: int = UNLIMITED
    choices: tuple[int, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether anything bounds it."""
        return self.high < UNLIMITED

    def meet(self, other: Range) -> Range:
        """What both allow; where that is nothing, the lower bound alone."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Range(low, max(low, high), tuple(dict.fromkeys(self.choices + other.choices)))

    def shifted(self, amount: int) -> Range:
        """The range of x where x + amount has to lie in this one."""
        choices = tuple(choice - amount for choice in self.choices)
        low = self.low if self.low == -UNLIMITED else self.low - amount
        return Range(low, self.high - amount if self.limited else self.high, choices)


_Rule = Callable[[Use], Range]


def integer_range(model: ModelProto, name: str) -> Range:
    """The values that the main-graph input `name` may take; unlimited where nothing that reads it says so."""
    return range_of(Readers(model).uses(name))


def range_of(uses: Iterable[Use]) -> Range:
    """The values that all of `uses` allow."""
    result = Range()
    for use in uses:
        result = result.meet(_limit(use).shifted(use.way.added))
    return result


def _limit(use: Use) -> Range:
    rule = _LIMITS.get((use.node.op_type, use.position))
    if rule is not None:
        return rule(use)
    if use.node.op_type in COMPARISONS:
        return Range(choices=use.scope.integers(use.node.input[1 - use.position]))
    return Range()


def _size(use: Use, position: int, axis: int) -> int:
    """The size of one axis of another input, 2 where it is not known: that keeps indices at 0 and 1."""
    shape = use.scope.shape(use.node.input[position]) if position < len(use.node.input) else None
    if shape is None or not -len(shape) <= axis < len(shape):
        return 2
    size = shape[axis]
    return 2 if size is None else size


def _index_of(position: int, default_axis: int = 0) -> _Rule:
    """An index into input `position`, along the node's `axis`."""
    return lambda use: Range(0, max(_size(use, position, integer(use.node, "axis", default_axis)) - 1, 0))


def _signed_index(use: Use) -> Range:
    """An index into the first input that may count from the end: Gather-11, ScatterElements-11, [-size, size - 1].

    Not where ONNX Runtime fuses what is gathered into EmbedLayerNormalization, which takes none below 0 (1.31).
    """
    size = max(_size(use, 0, integer(use.node, "axis", 0)), 1)
    read_by_sum = any(node.op_type == "Add" for node, _ in use.scope.readers.get(use.node.output[0], ()))
    embeds = use.node.op_type == "Gather" and read_by_sum
    return Range(0 if embeds or use.scope.facts.opset < _INDICES_FROM_THE_END else -size, size - 1)


def _index_along(position: int, axis: int) -> _Rule:
    """An index into input `position` along an axis that the op fixes."""
    return lambda use: Range(0, max(_size(use, position, axis) - 1, 0))


def _coordinates(use: Use) -> Range:
    """GatherND, ScatterND: any coordinate, so the smallest axis decides; that of GatherND may count from the end."""
    shape = use.scope.shape(use.node.input[0]) or ()
    size = max(min((size for size in shape if size is not None), default=1), 1)
    return Range(-size if use.node.op_type == "GatherND" else 0, size - 1)


def _flat_index(use: Use) -> Range:
    """MaxUnpool: a position in the flattened output, which is at least as long as the data."""
    shape = use.scope.shape(use.node.input[0]) or ()
    return Range(0, max(math.prod(size or 1 for size in shape) - 1, 0))


def _class(use: Use) -> Range:
    """OneHot: [-depth, depth - 1]."""
    depth = use.scope.integers(use.node.input[1])
    size = max(depth[0], 1) if len(depth) == 1 else 2
    return Range(-size, size - 1)


def _count_along(position: int, axis: int, inside: str) -> _Rule:
    """1 up to the size of an axis; `inside` is the attribute that may say which one."""
    return lambda use: Range(1, max(_size(use, position, integer(use.node, inside, axis)), 1))


def _cells(use: Use) -> Range:
    """RNN, GRU, LSTM: the length of the sequence, which is the first axis, or the second with layout 1."""
    return Range(1, max(_size(use, 0, integer(use.node, "layout", 0)), 1))


def _small(_use: Use) -> Range:
    """A count or divisor: 1 or 2."""
    return Range(1, 2)


_LIMITS: Mapping[tuple[str, int], _Rule] = {
    **dict.fromkeys((("Gather", 1), ("GatherElements", 1), ("ScatterElements", 1)), _signed_index),
    **dict.fromkeys((("Scatter", 1), ("TensorScatter", 2)), _index_of(0)),
    ("ArrayFeatureExtractor", 1): _index_of(0, -1),
    ("GatherND", 1): _coordinates,
    ("ScatterND", 1): _coordinates,
    ("OneHot", 0): _class,
    ("EmbedLayerNormalization", 0): _index_along(2, 0),
    ("EmbedLayerNormalization", 1): _index_along(4, 0),
    **dict.fromkeys((("RoiAlign", 2), ("MaxRoiPool", 2), ("CropAndResize", 2)), _index_along(0, 0)),
    **dict.fromkeys((("NegativeLogLikelihoodLoss", 1), ("SoftmaxCrossEntropyLoss", 1)), _index_along(0, 1)),
    ("ReverseSequence", 1): _count_along(0, 0, "time_axis"),
    ("TopK", 1): _count_along(0, -1, "axis"),
    ("Attention", 6): _count_along(1, -2, ""),
    ("RotaryEmbedding", 3): _index_along(1, 0),
    ("RotaryEmbedding", 1): _index_along(2, 0),  # com.microsoft's order
    ("MaxUnpool", 1): _flat_index,
    **dict.fromkeys((("RNN", 4), ("GRU", 4), ("LSTM", 4)), _cells),
    **dict.fromkeys((("OneHot", 1), ("Tile", 1), ("ConstantOfShape", 0), ("Loop", 0), ("BitShift", 1)), _small),
    **dict.fromkeys((("Range", 1), ("Range", 2), ("NonMaxSuppression", 2), ("Div", 1), ("Mod", 1)), _small),
    **dict.fromkeys((("Reshape", 1), ("Expand", 1), ("Resize", 3)), _small),
    **dict.fromkeys((("SequenceAt", 1), ("SequenceErase", 1), ("SequenceInsert", 2)), lambda _use: Range(0, 1)),
}

LIMITED = frozenset(_LIMITS)
"""(op, input position) of everything that bounds integers."""
