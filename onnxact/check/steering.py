"""graph input that tells a node what to do (a shape, axes, repeats, scales, a ratio) -> a value that the node takes.

Where the node's output has a declared shape, the value that gives it: x [2, 6] -> Reshape(x, here) -> [3, 4] gives
[3, 4]; else one that fits any shape: [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from onnx import NodeProto

from onnxact.check.graph import attribute, integer
from onnxact.check.readers import Use

Values = Sequence[float] | None

_TO_THE_END = 1 << 30
_RATIO = 0.5
_SAMPLE_RATE = 16000
_POSITIVE = frozenset(
    {
        *(("BatchNormalization", position) for position in (4, 14)),
        *((op, 1) for op in ("QuantizeLinear", "DequantizeLinear")),
        *(("QLinearConv", position) for position in (1, 4, 6)),
        *(("QLinearMatMul", position) for position in (1, 4, 6)),
        *(("QLinearLeakyRelu", position) for position in (1, 3)),
    }
)


@dataclass(frozen=True)
class _Asked:
    """A node, and how many numbers it is to be told. `data`, `made`: the shapes of its first input and output."""

    use: Use
    count: int

    @property
    def node(self) -> NodeProto:
        return self.use.node

    @property
    def data(self) -> tuple[int, ...] | None:
        return _known(self.use.scope.shape(self.node.input[0]))

    @property
    def made(self) -> tuple[int, ...] | None:
        return _known(self.use.scope.shape(self.node.output[0]))

    @property
    def axis(self) -> int:
        return integer(self.node, "axis", 0)


_Rule = Callable[[_Asked], Values]


def steering_value(uses: Iterable[Use], count: int) -> Values:
    """`count` numbers for an input that steers one of the nodes `uses`; None for one that steers none."""
    for use in uses:
        rule = _RULES.get((use.node.op_type, use.position))
        if rule is not None and use.way.whole and not use.way.added:
            found = rule(_Asked(use, count))
            if found is not None and len(found) == count:
                return found
    return None


def is_positive(uses: Iterable[Use]) -> bool:
    """Whether a node needs positive numbers here: a variance, the scale of a quantisation."""
    return any((use.node.op_type, use.position) in _POSITIVE for use in uses)


def _known(shape: Sequence[int | None] | None) -> tuple[int, ...] | None:
    if shape is None or any(size is None for size in shape):
        return None
    return tuple(size for size in shape if size is not None)


def _new_shape(asked: _Asked) -> Values:
    """Reshape: the declared shape; else -1, which fits anything, as far as Concat leaves room for it."""
    beside = [asked.use.scope.integers(name) for name in asked.use.way.beside]
    if beside:
        return [1 if any(-1 in sizes for sizes in beside) or not all(beside) else -1, *[1] * (asked.count - 1)]
    data, made = asked.data, asked.made
    if made is not None and data is not None and math.prod(made) == math.prod(data) and 0 not in made:
        return made
    return [-1, *[1] * (asked.count - 1)] if asked.count else []


def _made_or_ones(asked: _Asked) -> Values:
    made = asked.made
    return made if made is not None and len(made) == asked.count else [1] * asked.count


def _made(asked: _Asked) -> Values:
    return asked.made


def _repeats(asked: _Asked) -> Values:
    data, made = asked.data, asked.made
    if data is None or made is None or len(data) != len(made) or 0 in data:
        return None
    return [new // old for new, old in zip(made, data, strict=True)]


def _axes(asked: _Asked) -> Values:
    return list(range(asked.count))


def _axis(_asked: _Asked) -> Values:
    return [0]


def _signal_axis(_asked: _Asked) -> Values:
    """DFT: the last axis is real and imaginary part."""
    return [1]


def _bins(asked: _Asked) -> Values:
    """MelWeightMatrix: what comes out is [1 + half the length of the transform, bins]."""
    made = asked.made
    return [made[1] if made is not None and len(made) == 2 else 8]


def _transform(asked: _Asked) -> Values:
    made = asked.made
    return [2 * (made[0] - 1) if made is not None and len(made) == 2 else 256]


def _sample_rate(_asked: _Asked) -> Values:
    return [_SAMPLE_RATE]


def _lowest(_asked: _Asked) -> Values:
    return [0]


def _highest(asked: _Asked) -> Values:
    """MelWeightMatrix: half the sample rate, the highest frequency that there is."""
    rate = asked.use.scope.integers(asked.node.input[2])
    return [(rate[0] if rate else _SAMPLE_RATE) / 2]


def _added_axes(asked: _Asked) -> Values:
    """Unsqueeze: the axes of size 1 without which the output has the shape of the data."""
    data, made = asked.data, asked.made
    for axes in combinations(range(len(made)), asked.count) if made is not None else ():
        if tuple(size for axis, size in enumerate(made or ()) if axis not in axes) == data:
            return axes
    return list(range(asked.count))


def _axes_of_one(asked: _Asked) -> Values:
    return [axis for axis, size in enumerate(asked.data or ()) if size == 1][: asked.count]


def _starts(asked: _Asked) -> Values:
    return [0] * asked.count


def _ends(asked: _Asked) -> Values:
    """Slice, from 0."""
    made = asked.made
    inputs = asked.node.input
    axes = asked.use.scope.integers(inputs[3]) if len(inputs) > 3 else ()
    chosen = axes or tuple(range(asked.count))
    if made is None or len(chosen) != asked.count or any(not -len(made) <= axis < len(made) for axis in chosen):
        return [_TO_THE_END] * asked.count
    return [made[axis] for axis in chosen]


def _ones(asked: _Asked) -> Values:
    return [1] * asked.count


def _pads(asked: _Asked) -> Values:
    """Pad: half of what the declared shape needs in front; else 1 where every mode can take it from the data."""
    data, made = asked.data, asked.made
    if data is not None and made is not None and len(data) == len(made) and asked.count == 2 * len(data):
        needed = [new - old for new, old in zip(made, data, strict=True)]
        return [*(size // 2 for size in needed), *(size - size // 2 for size in needed)]
    return [1 if data and min(data) > 1 else 0] * asked.count


def _parts(asked: _Asked) -> Values:
    """Split: the declared sizes, else nearly equal ones that add up."""
    declared = [asked.use.scope.shape(name) for name in asked.node.output]
    sizes = [shape[asked.axis] for shape in declared if shape and -len(shape) <= asked.axis < len(shape)]
    data = asked.data
    total = data[asked.axis] if data and -len(data) <= asked.axis < len(data) else None
    if total is None or not asked.count:
        return None
    known = [size for size in sizes if size is not None]
    if len(known) == asked.count and sum(known) == total:
        return known
    return [total // asked.count + (part < total % asked.count) for part in range(asked.count)]


def _resized(asked: _Asked) -> Values:
    """Resize: sizes; without a declared shape, the data's own with the last two doubled."""
    data, made = asked.data, asked.made
    if data is None:
        return None
    return _picked(asked, made or [size * (2 if axis > 1 else 1) for axis, size in enumerate(data)])


def _scales(asked: _Asked) -> Values:
    """Resize and Upsample: how much larger each axis becomes."""
    data, made = asked.data, asked.made
    if data is not None and made is not None and len(data) == len(made) and 0 not in data:
        return _picked(asked, [new / old for new, old in zip(made, data, strict=True)])
    return [1.0 if axis < 2 else 2.0 for axis in range(asked.count)]


def _picked(asked: _Asked, values: Sequence[float]) -> Values:
    """Those of the axes that the attribute names."""
    axes = attribute(asked.node, "axes")
    return [values[axis] for axis in axes.ints if -len(values) <= axis < len(values)] if axes is not None else values


def _whole_region(asked: _Asked) -> Values:
    return [0.0] * (asked.count // 2) + [1.0] * (asked.count // 2)


def _grid(asked: _Asked) -> Values:
    """AffineGrid: N, C, H, W for theta [N, 2, 3] and an output [N, H, W, 2]."""
    theta, made = asked.data, asked.made
    if theta is None:
        return None
    return [theta[0], 1, *(made[1:-1] if made is not None else [3] * (asked.count - 2))]


def _limit(asked: _Asked) -> Values:
    """Range, from 0 in steps of 1."""
    return asked.made if asked.made is not None and len(asked.made) == 1 else [3]


def _window(asked: _Asked) -> Values:
    """STFT: frames as long as the window, else as a quarter of the signal."""
    inputs, data = asked.node.input, asked.data
    window = _known(asked.use.scope.shape(inputs[2])) if len(inputs) > 2 and inputs[2] else None
    if window:
        return window[:1]
    return [max(data[1] // 4, 1)] if data is not None and len(data) > 1 else None


_RULES: Mapping[tuple[str, int], _Rule] = {
    ("Reshape", 1): _new_shape,
    **dict.fromkeys((("Expand", 1), ("ConstantOfShape", 0)), _made_or_ones),
    **dict.fromkeys((("CenterCropPad", 1), ("MaxUnpool", 2)), _made),
    ("Tile", 1): _repeats,
    ("Unsqueeze", 1): _added_axes,
    ("Squeeze", 1): _axes_of_one,
    **dict.fromkeys((("CumSum", 1), ("CumProd", 1)), _axis),
    ("DFT", 2): _signal_axis,
    **{("MelWeightMatrix", at): rule for at, rule in enumerate((_bins, _transform, _sample_rate, _lowest, _highest))},
    ("Slice", 1): _starts,
    ("Slice", 2): _ends,
    **dict.fromkeys((("Slice", 3), ("Pad", 3)), _axes),
    **{
        (f"Reduce{what}", 1): _axes
        for what in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    },
    ("Slice", 4): _ones,
    ("Pad", 1): _pads,
    **dict.fromkeys((("Split", 1), ("SplitToSequence", 1)), _parts),
    ("Resize", 1): _whole_region,
    **dict.fromkeys((("Resize", 2), ("Upsample", 1)), _scales),
    ("Resize", 3): _resized,
    ("AffineGrid", 1): _grid,
    ("Range", 0): _starts,
    ("Range", 1): _limit,
    ("Range", 2): _ones,
    ("STFT", 1): _ones,
    ("STFT", 3): _window,
    ("NonMaxSuppression", 3): lambda _asked: [_RATIO],
    ("Dropout", 1): lambda _asked: [_RATIO],
    **dict.fromkeys((("Clip", 1), ("Clip", 2)), lambda asked: [-1.0 if asked.use.position == 1 else 1.0]),
}

STEERED = frozenset(_RULES)
"""(op, input position) of everything that steers a node."""
