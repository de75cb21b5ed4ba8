"""Model -> the same without its weights, which is enough to infer shapes from."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto, TensorProto, ValueInfoProto

_SMALL = 1024
"""Bytes up to which an initializer is kept: shapes and axes are such."""


def without_weights(model: ModelProto) -> ModelProto:
    """Return a copy in which initializers of more than a kilobyte became inputs: shapes are enough for inference."""
    copy = ModelProto(ir_version=max(model.ir_version, 4))
    copy.opset_import.extend(model.opset_import)
    if not model.opset_import:
        copy.opset_import.add(domain="", version=1)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name or "graph"
    for field in ("node", "input", "output", "value_info"):
        getattr(graph, field).extend(getattr(model.graph, field))
    inputs = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL and tensor.ByteSize() <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            graph.input.add(name=tensor.name).type.tensor_type.elem_type = tensor.data_type
            _set_shape(graph.input[-1], tensor.dims)
    return copy


def _set_shape(value: ValueInfoProto, dims: Iterable[int]) -> None:
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    for dim in dims:
        shape.dim.add(dim_value=dim)
