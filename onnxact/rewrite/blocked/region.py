"""The nodes of a scope that make or read values in blocks of channels, and which values have the same channels.

    Conv > MaxPool > ReorderOutput(channels = 20)   ->   both values have 20 channels, of the 24 or 32 that are stored

Every reason why the values could not be given back their layout is an UnclearError.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from onnx import NodeProto

from onnxact.activation.primitives import PRIMITIVES
from onnxact.model.scope import OUTSIDE, Scope
from onnxact.rewrite.expansion import attributes_of

DOMAIN = "com.microsoft.nchwc"
_SAME_CHANNELS = {"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Upsample"}
_ELEMENTWISE = {"Sum", "Identity", "com.microsoft::QuickGelu", "com.microsoft::Gelu", "com.microsoft::FastGelu"}
_AXIS = 1


class UnclearError(ValueError):
    """Why a scope cannot be taken out of blocks."""


@dataclass
class Region:
    """What is in blocks in a scope. `parents`: value -> one with the same channels. `known`: value -> its channels.

    `convolutions`, `reshapes`: the indices of nodes. `blocks`: the sizes of a block that are stated somewhere. `whole`:
    values without padding. `given`: values that come from outside, without a word on how many channels they have.
    """

    scope: Scope
    parents: dict[str, str] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    convolutions: list[int] = field(default_factory=list)
    reshapes: list[int] = field(default_factory=list)
    blocks: set[int] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)

    def channels(self, name: str) -> int | None:
        """Return how many channels a value in blocks has; None where nothing says so."""
        return self.known.get(self.first(name))

    def first(self, name: str) -> str:
        """Return what stands for all values with the same channels as this one."""
        while self.parents[name] != name:
            name = self.parents[name]
        return name

    def add(self, name: str) -> None:
        """Add a value in blocks."""
        self.parents.setdefault(name, name)

    def join(self, names: Iterable[str]) -> None:
        """Note that values have the same channels."""
        one, *others = map(self.first, names)
        for other in others:
            self.parents[other] = one
            if other in self.known:
                self.state(one, self.known.pop(other))

    def state(self, name: str, channels: int) -> None:
        """Note how many channels a value has."""
        if self.known.setdefault(self.first(name), channels) != channels:
            raise UnclearError(f"{name!r} has {channels} channels here and {self.known[self.first(name)]} there")


def region_of(scope: Scope) -> Region:
    """Return what is in blocks in a scope whose nodes are sorted; UnclearError for what cannot be taken out of them."""
    found = Region(scope)
    for index, op in enumerate(scope.op_types):
        node = scope.nodes[index]
        if op.startswith(f"{DOMAIN}::"):
            _add_own(found, node, index)
        elif any(name in found.parents for name in node.input):
            _add_standard(found, node, op, index)
    _require_contained(found)
    return found


def _add_own(found: Region, node: NodeProto, index: int) -> None:
    op, stated = node.op_type, attributes_of(node)
    if op == "ReorderOutput":
        found.state(_blocked(found, node.input[0]), stated["channels"])
        return
    found.add(node.output[0])
    if op == "ReorderInput":
        _state_input(found, node, last=bool(stated.get("channels_last", 0)))
    elif op in _SAME_CHANNELS:
        found.join((_blocked(found, node.input[0]), node.output[0]))
    elif op == "Conv":
        found.convolutions.append(index)
        _add_convolution(found, node, stated.get("group", 1))
    else:
        raise UnclearError(f"what {DOMAIN}::{op} computes is not known")


def _blocked(found: Region, name: str) -> str:
    if name not in found.parents:
        raise UnclearError(f"{name!r} is read in blocks, and nothing in the graph makes it so")
    return name


def _state_input(found: Region, node: NodeProto, *, last: bool) -> None:
    shape = found.scope.shape(node.input[0], infer=True)
    channels = shape[-1 if last else _AXIS] if shape is not None and len(shape) > _AXIS else None
    if isinstance(channels, int) and channels > 0:
        found.state(node.output[0], channels)
    else:
        found.given.add(node.output[0])


def _add_convolution(found: Region, node: NodeProto, group: int) -> None:
    weights = found.scope.constant(node.input[1])
    if weights is None or weights.ndim != 4:
        raise UnclearError(f"the weights {node.input[1]!r} cannot be read")
    alike = [node.output[0]]
    if group > 1 and weights.shape[1] == 1:
        alike.append(_blocked(found, node.input[0]))
    elif group > 1:
        found.state(node.output[0], weights.shape[0])
        found.state(_blocked(found, node.input[0]), weights.shape[1] * group)
    if len(node.input) > 3 and node.input[3]:
        alike.append(_blocked(found, node.input[3]))
    found.join(alike)


def _add_standard(found: Region, node: NodeProto, op: str, index: int) -> None:
    """Add what a standard node makes of values in blocks, which it reads as they are stored."""
    found.add(node.output[0])
    blocked = [name for name in node.input if name in found.parents]
    if op == "Concat" and attributes_of(node).get("axis") == _AXIS and len(blocked) == len(node.input):
        found.whole.update((node.output[0], *blocked))
        return
    if op == "Reshape" and (block := _split(found.scope.constant(node.input[1]))) is not None:
        found.reshapes.append(index)
        found.blocks.update({block} - {0})
    elif not (op in PRIMITIVES or op in _ELEMENTWISE) or not _rest_is_scalar(found, node):
        raise UnclearError(f"{op} reads {blocked[0]!r} in blocks")
    found.join((node.output[0], *blocked))


def _split(shape: Any) -> int | None:
    """Return the block of a Reshape that shows the blocks, 0 for one that hides them again, None for any other."""
    sizes = [] if shape is None else shape.reshape(-1).tolist()
    if len(sizes) == 5 and [sizes[0], *sizes[2:4]] == [0, 0, 0]:
        return int(sizes[4])
    return 0 if len(sizes) == 4 and [sizes[0], *sizes[2:]] == [0, 0, 0] else None


def _rest_is_scalar(found: Region, node: NodeProto) -> bool:
    others = (name for name in node.input if name and name not in found.parents)
    constants = (found.scope.constant(name) for name in others)
    return all(value is not None and value.size == 1 for value in constants)


def _require_contained(found: Region) -> None:
    """Require that no value in blocks is seen from outside, or declared with the channels that are stored."""
    scope = found.scope
    for name in found.parents:
        if OUTSIDE in scope.readers.get(name, ()) or any(name in child.mentioned for child in scope.children.values()):
            raise UnclearError(f"{name!r}, which is in blocks, is an output or read from a subgraph")
        declared = scope.shape(name)
        if declared is not None and declared[_AXIS] != (found.channels(name) or declared[_AXIS]):
            raise UnclearError(f"{name!r} is declared with {declared[_AXIS]} channels and has {found.channels(name)}")
