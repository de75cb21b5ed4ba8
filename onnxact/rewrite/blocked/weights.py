"""(region) -> for each convolution its weights and bias as they were before they were put in blocks.

The block is the only size that fits everything the file says: the padding of channels, which has to be zero, and how
many channels a convolution reads in one piece. Where both sizes fit, it is that of the installed ONNX Runtime.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnxact.rewrite.blocked.layout import SIZES, in_order, installed, padded
from onnxact.rewrite.blocked.region import Region, UnclearError
from onnxact.rewrite.expansion import attributes_of


class Convolution(NamedTuple):
    """A convolution. `weights` as stored; `direct`: it reads x as ONNX lays it out; `each`: one filter a channel."""

    node: NodeProto
    weights: NDArray[Any]
    bias: NDArray[Any] | None
    group: int
    direct: bool

    @property
    def each(self) -> bool:
        """Whether every channel has a filter of its own."""
        return self.group > 1 and self.weights.shape[1] == 1

    def in_order(self, block: int) -> NDArray[Any]:
        """Return the weights as [O, I, H, W], with the padding."""
        return in_order(self.weights, block, inputs_too=not (self.direct or self.each))


class Restored(NamedTuple):
    """What a convolution had before it was put in blocks."""

    weights: NDArray[Any]
    bias: NDArray[Any] | None
    group: int


class Unblocked(NamedTuple):
    """The convolutions of a region by node index. `assumed`: the block, where the file does not say which it is."""

    restored: dict[int, Restored]
    assumed: int = 0


def unblock(region: Region) -> Unblocked:
    """Return the convolutions of a region in order; UnclearError where that is not certain."""
    found = {index: _convolution(region, index) for index in region.convolutions}
    tried = {block: _tried(region, found, block) for block in sorted(region.blocks) or SIZES}
    fitting = {block: restored for block, restored in tried.items() if not isinstance(restored, str)}
    if not fitting:
        raise UnclearError("; ".join(f"in blocks of {block}: {reason}" for block, reason in tried.items()))
    if len(fitting) == 1 or not found:
        return Unblocked(next(iter(fitting.values())))
    if (block := installed()) not in fitting:
        raise UnclearError("its weights lie in blocks of 8 or of 16, and only ONNX Runtime, where it runs, says which")
    return Unblocked(fitting[block], block)


def _tried(region: Region, found: dict[int, Convolution], block: int) -> dict[int, Restored] | str:
    """Return the convolutions as blocks of this size have them, or why they do not."""
    try:
        return _restored(region, found, block)
    except UnclearError as error:
        return str(error)


def _convolution(region: Region, index: int) -> Convolution:
    node = region.scope.nodes[index]
    weights = region.scope.constant(node.input[1])
    bias = region.scope.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if weights is None or (bias is None and len(node.input) > 2 and node.input[2]):
        raise UnclearError(f"the weights of {node.name!r} cannot be read")
    return Convolution(node, weights, bias, attributes_of(node).get("group", 1), node.input[0] not in region.parents)


def _restored(region: Region, found: dict[int, Convolution], block: int) -> dict[int, Restored]:
    laid = {index: _fitting(one, block) for index, one in found.items()}
    channels = _channels(region, found, laid, block)
    return {index: _cut(region, one, laid[index], channels) for index, one in found.items()}


def _fitting(one: Convolution, block: int) -> NDArray[Any]:
    """Return weights in order; UnclearError where the block does not fit what the convolution reads and makes."""
    outputs, inputs = one.weights.shape[:2]
    if outputs % block or (one.direct and (inputs >= block or one.group > 1)):
        raise UnclearError(f"{one.node.name!r} makes {outputs} of {inputs} channels")
    if not (one.direct or one.each) and inputs % block:
        raise UnclearError(f"{one.node.name!r} reads {inputs} channels in blocks")
    return one.in_order(block)


def _channels(
    region: Region, found: dict[int, Convolution], laid: dict[int, NDArray[Any]], block: int
) -> dict[str, int]:
    """Return how many channels every value that a convolution reads or makes has, by what stands for it."""
    stored: dict[str, int] = {}
    used: dict[str, int] = {}
    for index, one in found.items():
        for name, count, last in _ends(region, one, laid[index]):
            if stored.setdefault(name, count) != count:
                raise UnclearError(f"{one.node.name!r} has {count} channels where others have {stored[name]}")
            used[name] = max(used.get(name, 0), last)
    whole, given = ({region.first(name) for name in names} for names in (region.whole, region.given))
    channels = {}
    for name, count in stored.items():
        known = region.known.get(name) or (count if name in whole else max(used[name], count - block + 1))
        if name not in region.known and name in given and known != count:
            raise UnclearError(f"how many channels {name!r} has is not known")
        if padded(known, block) != count and name in region.known:
            raise UnclearError(f"{known} channels are stored as {count}")
        channels[name] = known
    return channels


def _ends(region: Region, one: Convolution, laid: NDArray[Any]) -> list[tuple[str, int, int]]:
    """Return (what stands for a value, channels stored, of which so many are not only zeros) for output and input."""
    outputs = _used(laid, 0)
    if one.bias is not None:
        outputs = max(outputs, _used(one.bias, 0))
    ends = [(region.first(one.node.output[0]), laid.shape[0], outputs)]
    if not (one.direct or one.each):
        grouped = one.group > 1
        inputs = laid.shape[1] * one.group
        ends.append((region.first(one.node.input[0]), inputs, inputs if grouped else _used(laid, 1)))
    return ends


def _used(values: NDArray[Any], axis: int) -> int:
    """Return the number of channels up to the last that holds anything but zeros."""
    others = tuple(other for other in range(values.ndim) if other != axis)
    filled = np.flatnonzero(np.any(values != 0, axis=others))
    return int(filled[-1]) + 1 if filled.size else 0


def _cut(region: Region, one: Convolution, laid: NDArray[Any], channels: dict[str, int]) -> Restored:
    """Return a convolution without the padding, which must hold nothing."""
    outputs = channels[region.first(one.node.output[0])]
    inputs = laid.shape[1]
    if not (one.direct or one.group > 1):
        inputs = channels[region.first(one.node.input[0])]
    bias = None if one.bias is None else one.bias[:outputs]
    if _used(laid, 0) > outputs or _used(laid, 1) > inputs or (one.bias is not None and _used(one.bias, 0) > outputs):
        raise UnclearError(f"the padding of {one.node.name!r} is not zero")
    return Restored(np.ascontiguousarray(laid[:outputs, :inputs]), bias, outputs if one.each else one.group)
