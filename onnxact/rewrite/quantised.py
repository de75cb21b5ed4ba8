"""A site and the quantisers behind it -> whether they hide what a swap changes, and whether their scales are stale.

    Relu > MaxPool > QuantizeLinear(zero point 0)   ->   no number below zero gets through

Between the two may stand what moves numbers without changing them, and MaxPool: the largest of clipped numbers is the
largest number clipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from onnxact.activation.catalog import Activation
from onnxact.model.schema import plain
from onnxact.model.scope import OUTSIDE
from onnxact.rewrite.site import Site, Slopes

STALE = (
    "scale and zero point of the QuantizeLinear behind it were measured with the activation that was there: "
    "calibrate the model again"
)
_PASSES = {"Identity", "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice"}
"""Ops whose first output holds numbers of their first input, and of two numbers the larger one."""


def is_quantised(site: Site) -> bool:
    """Tell whether a quantiser reads the site's output."""
    return any(node is not None and node.op_type == "QuantizeLinear" for node in _ends(site))


def clipped(site: Site) -> str:
    """Return why a swap of a Relu would change nothing: all that follows are quantisers whose lowest number is zero."""
    if site.activation != "relu":
        return ""
    ends = list(_ends(site))
    if not ends or not all(node is not None and _clips_at_zero(site, node) for node in ends):
        return ""
    name = next((node.name for node in ends if node is not None and node.name), "QuantizeLinear")
    return (
        f"{name} behind it clips at zero, so that the swap would have no effect; "
        "change the quantiser first, or give --allow-no-effect"
    )


def _ends(site: Site) -> Iterator[NodeProto | None]:
    """Yield the nodes that read the site's output, past those that only move numbers; None for a reader outside."""
    scope, pending, seen = site.scope, [site.output], set[str]()
    while pending:
        name = pending.pop()
        seen.add(name)
        for index in scope.readers.get(name, ()):
            node = None if index == OUTSIDE else scope.nodes[index]
            if node is None or not _passes(node, name):
                yield node
            elif node.output[0] not in seen:
                pending.append(node.output[0])


def _passes(node: NodeProto, name: str) -> bool:
    """Tell whether all that a node makes of a value is numbers of it."""
    known = node.op_type in _PASSES and not plain(node.domain) and len(node.output) == 1
    return known and list(node.input).count(name) == 1 and node.input[0] == name


def _clips_at_zero(site: Site, node: NodeProto) -> bool:
    if node.op_type != "QuantizeLinear" or plain(node.domain):
        return False
    point = site.scope.constant(node.input[2]) if len(node.input) > 2 else _default_zero_point(node)
    integral = point is not None and point.dtype.kind in "iu"
    return integral and point is not None and bool(np.all(point == np.iinfo(point.dtype).min))


def _default_zero_point(node: NodeProto) -> NDArray[Any]:
    """Return the zero point of a QuantizeLinear that is given none: 0 of its output type (uint8 unless it says)."""
    stated = next((a.i for a in node.attribute if a.name == "output_dtype"), 0) or TensorProto.UINT8
    return np.zeros(1, helper.tensor_dtype_to_np_dtype(stated))


def alike_above_zero(activation: Activation, parameters: Mapping[str, Slopes]) -> bool:
    """Tell whether a quantiser that clips at zero makes an activation and Relu the same."""
    x = np.concatenate([-np.geomspace(1e-3, 1e3, 50), np.zeros(1), np.geomspace(1e-3, 1e3, 50)])
    names, ends = list(parameters), [_extremes(value) for value in parameters.values()]
    with np.errstate(all="ignore"):
        outputs = [activation.reference(x, **dict(zip(names, some, strict=True))) for some in product(*ends)]
    return all(np.array_equal(np.maximum(output, 0), np.maximum(x, 0)) for output in outputs)


def _extremes(value: Slopes) -> list[float]:
    """Return the smallest and the largest number of a parameter."""
    arrays = list(value.values()) if isinstance(value, Mapping) else [np.asarray(value)]
    numbers = [float(end(array)) for array in arrays if array.size for end in (np.min, np.max)]
    return [min(numbers), max(numbers)] if numbers else [0.0]
