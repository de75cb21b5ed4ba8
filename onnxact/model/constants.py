"""Constant node or tensor -> its value, or None where it is not fixed or not readable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from onnxact.activation.numeric import FLOATS, rounded
from onnxact.model.schema import plain

PASSES_CONSTANTS = {"Identity", "Cast", "CastLike"}
"""Ops whose output is a constant where their first input is one."""


def through(casts: list[str | None], value: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return a constant after casts to these dtypes, the last of which comes first."""
    for dtype in reversed(casts):
        value = None if value is None or dtype is None else rounded(value, FLOATS[dtype])
    return value


def array_of(tensor: TensorProto) -> NDArray[Any] | None:
    """Return a tensor's value, None where its data does not fill its shape or its type is none."""
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):
        return None


def constant_of(node: NodeProto) -> NDArray[Any] | None:
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
