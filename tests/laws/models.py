"""Models to test the laws on: one node of each kind, onnx's own, and those of a folder."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxact.activation.catalog import ACTIVATIONS, Activation
from onnxact.activation.expr import Literal, Parameter
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema

OPSETS = (7, 9, 11, 13, 16, 18, 20, 22, 24)
DTYPES = ("float16", "bfloat16", "float32", "float64")
ELEM_TYPES = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}
Values = dict[str, float | tuple[float, ...]]
SETTINGS: dict[str, tuple[Values, ...]] = {
    "clip": ({"min": 0.0, "max": 1.0}, {"min": -0.5, "max": 2.0}, {"min": -1.5}, {"max": 2.0}),
    "leaky_relu": ({"alpha": 0.25}, {"alpha": 2.0}, {"alpha": 0.0}, {"alpha": -0.5}, {"alpha": 1.0}),
    "prelu": (
        {"slope": (0.25, 0.5, -0.125, 2.0)},
        {"slope": 0.25},
        {"slope": (0.5, 0.5, 0.5, 0.5)},
        {"slope": (2.0, 1.0, 4.0, 2.0)},
    ),
    "thresholded_relu": ({"alpha": 1.0}, {"alpha": 0.0}, {"alpha": -0.5}),
    "elu": ({"alpha": 1.0}, {"alpha": 0.5}),
    "celu": ({"alpha": 1.0}, {"alpha": 0.5}),
    "swish": ({"beta": 1.0}, {"beta": 0.5}),
}
"""Parameters that every dtype holds exactly: what ONNX Runtime makes of others in float16 is its own affair."""


def settings(activation: Activation) -> tuple[Values, ...]:
    """Return the parameters to test an activation with; none stands for ONNX's defaults."""
    return SETTINGS.get(activation.name, ({},))


def one_node(activation: Activation, opset: int, dtype: str, values: Values, ir_version: int = 10) -> ModelProto | None:
    """Return y = op(x), x of shape [2, 3, 4], or None where ONNX has no such op for this dtype at this opset."""
    native = activation.native
    if native is None or not schema.admits(native.op, dtype, opset):
        return None
    stated = schema.attributes(native.op, opset)
    inputs, initializers = ["x"], []
    attributes: dict[str, Any] = {}
    for name, arg in zip(PRIMITIVES[native.op].operands[1:], native.args[1:], strict=False):
        value = values.get(arg.name) if isinstance(arg, Parameter) else getattr(arg, "value", None)
        if isinstance(arg, Parameter) and arg.name == "slope" and value is None:
            value = 0.25
        if name in stated:
            if value is not None and not (isinstance(value, float) and np.isinf(value)):
                attributes[name] = value
        elif value is None or (isinstance(arg, (Literal, Parameter)) and np.all(np.isinf(value))):
            inputs.append("")
        else:
            initializers.append(numpy_helper.from_array(np.asarray(rounded(value, FLOATS[dtype])), name))
            inputs.append(name)
    while not inputs[-1]:
        inputs.pop()
    node = helper.make_node(native.op, inputs, ["y"], name="act", **attributes)
    x, y = (helper.make_tensor_value_info(name, ELEM_TYPES[dtype], [2, 3, 4]) for name in "xy")
    graph = helper.make_graph([node], "one", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def natives() -> Iterator[Activation]:
    """Yield every activation that ONNX has an op for."""
    yield from (row for row in ACTIVATIONS.values() if row.native is not None)


class Named(NamedTuple):
    """A model with a name for the report; `path` where it has external data and must be read from its file."""

    name: str
    model: ModelProto
    path: Path | None = None


@cache
def node_cases() -> dict[str, ModelProto]:
    """Return onnx's backend node tests, *_expanded function bodies among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, from computing the expected outputs
        from onnx.backend.test.case.node import collect_testcases

        return {case.name: case.model for case in collect_testcases(None) if case.model is not None}


SHIPPED = Path(onnx.__file__).parent / "backend" / "test" / "data"
CORPUS = os.environ.get("ONNXACT_CORPUS", "")


def shipped() -> list[Path]:
    """Return the model files that come with onnx."""
    return sorted(SHIPPED.rglob("*.onnx"))


def corpus() -> list[dict[str, str]]:
    """Return the rows of the corpus' manifest: file, checker, ort_load, ort_run, external_data, ..."""
    if not CORPUS:
        return []
    with (Path(CORPUS) / "manifest.tsv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))
