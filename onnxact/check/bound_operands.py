"""What a rule of interval arithmetic sees of a node, and the rules that many ops share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from onnx import NodeProto, TensorProto

from onnxact.check.graph import attribute
from onnxact.check.interval import ANY, NOT_NEGATIVE, UNIT, ZERO, Interval
from onnxact.check.weights import size_of, value_of

_LARGEST = 1 << 26
"""Bytes of the largest constant that is read from a file for its bounds."""
_UNSIGNED = {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}


class Operands(Protocol):
    """The node of a rule, with the intervals of its inputs on demand; everything for an input that is left out."""

    @property
    def node(self) -> NodeProto:
        """The node."""

    def __getitem__(self, position: int) -> Interval:
        """The interval of the input at a position."""

    def given(self, position: int) -> bool:
        """Whether the node has this input."""

    def every(self) -> list[Interval]:
        """Those of all inputs."""

    def elem_type(self, position: int) -> int | None:
        """The element type of an input, None where it is not known."""


Rule = Callable[[Operands], Interval]


def of_type(elem_type: int | None) -> Interval:
    """What the element type alone says."""
    if elem_type == TensorProto.BOOL:
        return UNIT
    return NOT_NEGATIVE if elem_type in _UNSIGNED else ANY


def of_constant(tensor: TensorProto, folder: Path | None = None) -> Interval:
    """The smallest and largest element; everything for what is text, empty, holds NaN, is not in `folder`, or lies in a
    file and is large.
    """
    in_file = tensor.data_location == TensorProto.EXTERNAL
    if tensor.data_type == TensorProto.STRING or (in_file and size_of(tensor) > _LARGEST):
        return ANY
    array = value_of(tensor, folder)
    if array is None or array.size == 0 or array.dtype.kind == "c":
        return ANY
    low, high = float(array.min()), float(array.max())
    return ANY if math.isnan(low) or math.isnan(high) else Interval(low, high)


def number(operands: Operands, name: str, default: float) -> float:
    """A floating attribute."""
    found = attribute(operands.node, name)
    return default if found is None else found.f


def fixed(found: Interval) -> Rule:
    """The same whatever the operands are."""
    return lambda _operands: found


def same(operands: Operands) -> Interval:
    """Values of the first operand, moved, chosen or repeated."""
    return operands[0]


def same_or_zero(operands: Operands) -> Interval:
    """The same, with zeros among them."""
    return operands[0].hull(ZERO)


def sign_kept(operands: Operands) -> Interval:
    """The sign of x, not its size: f(x) >= 0 for x >= 0 and f(x) <= 0 for x <= 0."""
    return operands[0].sign()
