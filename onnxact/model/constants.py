"""Constant node, tensor, or nodes that only work on such -> a value; None where it is not fixed or not readable.

Sqrt(CastLike(Constant 2, x))  ->  1.4142135 in the dtype of x        Expand(slope [64, 1, 1], [1, 64, 1, 1])  ->  slope

Only ops that every runtime computes alike are worked out: they move numbers about, or round correctly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnxact.activation.numeric import FLOATS, rounded
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model.schema import plain

if TYPE_CHECKING:
    from onnxact.model.scope import Scope

Array = NDArray[Any]
LARGEST = 1 << 20
"""Elements of the largest constant that is worked out."""
_BROADCASTS_BY_ATTRIBUTE = 7
"""Below this opset binary ops broadcast by attribute."""


class Place(NamedTuple):
    """A value and the scope that makes it, None for a name that nothing makes."""

    scope: Scope | None
    name: str


def constant(scope: Scope, name: str) -> Array | None:
    """Return the value of `name` as `scope` sees it; what it is made of is remembered in the scopes that make it."""
    asked = Place(scope.owner(name), name)
    found: dict[Place, Array | None] = {}
    pending = {asked: _operands(asked)}
    while pending:
        place, operands = next(reversed(pending.items()))
        unknown = next((one for one in operands if one not in found), None)
        if any(one in found and found[one] is None for one in operands) or unknown in pending:
            found[place] = None
        elif unknown is not None:
            _look_up(unknown, found, pending)
            continue
        else:
            found[place] = _value(place, [found[one] for one in operands])
        del pending[place]
        if place.scope is not None:
            place.scope.remember(place.name, found[place])
    return found[asked]


def _look_up(place: Place, found: dict[Place, Array | None], pending: dict[Place, tuple[Place, ...]]) -> None:
    if place.scope is not None and place.name in place.scope.remembered:
        found[place] = place.scope.remembered[place.name]
    else:
        pending[place] = _operands(place)


def _operands(place: Place) -> tuple[Place, ...]:
    """Return what a place is worked out from; nothing for what is a constant by itself, or none."""
    node = _folding(place)
    if node is None or place.scope is None:
        return ()
    names = node.input[:1] if node.op_type in _FIRST_ALONE else node.input
    return tuple(Place(place.scope.owner(name), name) for name in names if name)


def _folding(place: Place) -> NodeProto | None:
    """Return the node that makes the value, if it is one that is worked out."""
    if place.scope is None or (index := place.scope.producers.get(place.name)) is None:
        return None
    node = place.scope.nodes[index]
    return node if node.op_type in PASSES_CONSTANTS and not plain(node.domain) and node.input else None


def _value(place: Place, operands: Sequence[Array | None]) -> Array | None:
    node, values = _folding(place), [value for value in operands if value is not None]
    if place.scope is None:
        return None
    if node is None:
        return place.scope.own_constant(place.name)
    if len(values) < len(operands) or any(value.size > LARGEST for value in values):
        return None
    try:
        with np.errstate(all="ignore"):
            return _folded(place.scope, node, values)
    except (ValueError, IndexError, TypeError):
        return None


def _folded(scope: Scope, node: NodeProto, values: list[Array]) -> Array | None:
    if node.op_type in _CASTS:
        dtype = scope.dtype(node.output[0])
        return None if dtype is None else rounded(values[0], FLOATS[dtype])
    if node.op_type in _MOVES:
        return _MOVES[node.op_type](_stated(node), *values)
    return None if scope.opset < _BROADCASTS_BY_ATTRIBUTE else _computed(node, values)


def _computed(node: NodeProto, values: list[Array]) -> Array | None:
    """Return the result of arithmetic in the dtype that all operands have."""
    dtype = values[0].dtype
    shape = np.broadcast_shapes(*(value.shape for value in values))
    if dtype not in FLOATS.values() or any(value.dtype != dtype for value in values) or math.prod(shape) > LARGEST:
        return None
    if node.op_type in _FOLDS_PAIRS:
        first, *others = values
        for other in others:
            first = np.asarray(PRIMITIVES[node.op_type].meaning(first, other)).astype(dtype)
        return first
    return np.asarray(PRIMITIVES[node.op_type].meaning(*values)).astype(dtype)


def _stated(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _expand(_stated: Mapping[str, Any], value: Array, shape: Array) -> Array | None:
    wanted = np.broadcast_shapes(value.shape, tuple(map(int, shape)))
    return np.broadcast_to(value, wanted) if math.prod(wanted) <= LARGEST else None


def _reshape(stated: Mapping[str, Any], value: Array, shape: Array | None = None) -> Array:
    wanted = list(map(int, stated["shape"] if shape is None else shape))
    if not stated.get("allowzero", 0):
        wanted = [size or value.shape[axis] for axis, size in enumerate(wanted)]
    return value.reshape(wanted)


def _unsqueeze(stated: Mapping[str, Any], value: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(value, tuple(map(int, stated["axes"] if axes is None else axes)))


def _squeeze(stated: Mapping[str, Any], value: Array, axes: Array | None = None) -> Array:
    chosen = stated.get("axes") if axes is None else axes
    return np.squeeze(value, None if chosen is None else tuple(map(int, chosen)))


def _transpose(stated: Mapping[str, Any], value: Array) -> Array:
    return np.transpose(value, stated.get("perm"))


def _flatten(stated: Mapping[str, Any], value: Array) -> Array:
    axis = stated.get("axis", 1)
    return value.reshape(math.prod(value.shape[:axis]), -1)


_CASTS = {"Cast", "CastLike"}
_FIRST_ALONE = {*_CASTS, "Identity"}
_MOVES: dict[str, Callable[..., Array | None]] = {
    "Identity": lambda _stated, value: value,
    "Expand": _expand,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Flatten": _flatten,
}
"""Op -> what it makes of its attributes and operands (ONNX changelog: axes and shapes were attributes once)."""
_FOLDS_PAIRS = {"Sum", "Max", "Min"}
"""Ops of any number of operands."""
_COMPUTES = {*_FOLDS_PAIRS, "Add", "Sub", "Mul", "Div", "Sqrt", "Neg", "Abs", "Reciprocal"}
PASSES_CONSTANTS = frozenset({*_CASTS, *_MOVES, *_COMPUTES})
"""Ops whose output is a constant where their operands are, those of Cast and CastLike where the first is."""


def array_of(tensor: TensorProto) -> Array | None:
    """Return a tensor's value, None where its data does not fill its shape or its type is none."""
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):
        return None


def constant_of(node: NodeProto) -> Array | None:
    """Return the value of a Constant node; None for any other node, and where it depends on the caller."""
    if node.op_type != "Constant" or plain(node.domain) or not node.attribute:
        return None
    attribute = node.attribute[0]
    if attribute.ref_attr_name:
        return None
    if attribute.name == "value" and attribute.t.data_location != TensorProto.EXTERNAL:
        return array_of(attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        stated: float | Sequence[float] = attribute.f if attribute.name == "value_float" else list(attribute.floats)
        return np.asarray(stated, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(attribute.i if attribute.name == "value_int" else list(attribute.ints), np.int64)
    return None
