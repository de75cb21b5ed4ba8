"""One node of an activation, with parameters that targets treat differently."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.model import schema
from onnxact.rewrite.target.matrix import EXAMPLES, example

FOLDER = Path(onnxact.__file__).parent / "targets"
FILES = sorted(FOLDER.glob("*.toml"))
OPSETS = (13, 20, 24)
MORE: dict[str, tuple[dict[str, Any], ...]] = {
    "clip": ({"min": 0.0, "max": 6.5}, {"min": -1.0, "max": 1.0}, {"min": 0.5}, {"max": -0.5}),
    "leaky_relu": ({"alpha": 0.25}, {"alpha": 2.0}, {"alpha": 26 / 256}, {"alpha": -0.5}),
    "prelu": ({"slope": np.array([0.25], np.float32)}, {"slope": np.array([[[0.25]], [[2.0]], [[-0.5]]], np.float32)}),
    "elu": ({"alpha": 0.5},),
    "celu": ({"alpha": 2.0},),
    "swish": ({"beta": 1.5},),
    "thresholded_relu": ({"alpha": -0.5},),
}


class Example(NamedTuple):
    """One node. `values`: its parameters."""

    activation: str
    values: dict[str, Any]
    opset: int
    model: ModelProto


def examples(opsets: tuple[int, ...] = OPSETS) -> Iterator[Example]:
    """Yield every activation at every opset that has its op, with its own example and more parameters."""
    for name, row in ACTIVATIONS.items():
        for opset in opsets:
            if row.native is not None and schema.schema(row.native.op, opset) is None:
                continue
            for more in ({}, *MORE.get(name, ())):
                values = {**row.defaults, **EXAMPLES.get(name, {}), **more}
                yield Example(name, values, opset, example(row, values, opset))
