"""A model with its weights in itself -> the same with the large ones in a file, which sessions map into memory.

100 MB of weights, eight sessions: 100 MB written once, not eight messages of 100 MB that are made, parsed and copied

A process that is killed leaves the folder behind, `onnxact-...` among the temporary files.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, StringStringEntryProto, TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnxact.model.files import external_tensors

_LARGE = 1 << 16
"""Bytes from which on a tensor is worth a place in the file."""
_WORTHWHILE = 1 << 22
"""Bytes of all such tensors from which on the file is worth it."""
_ALIGNMENT = 1 << 12
_FILE = "weights"


class Externalised(NamedTuple):
    """A model whose large weights lie in a file of `folder`, which is the caller's to remove."""

    model: ModelProto
    folder: Path


def externalised(model: ModelProto) -> Externalised | None:
    """Write the large weights of the main graph to a temporary file, and return the model that refers to them there.

    None where there are few, where some lie in files already, or where there is no room for the file.
    """
    large = [tensor for tensor in model.graph.initializer if _is_large(tensor)]
    if sum(map(size_of, large)) < _WORTHWHILE or next(external_tensors(model), None) is not None:
        return None
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="onnxact-")).resolve()
        written = iter(list(_written(large, folder / _FILE)))
    except OSError:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return None
    found = Externalised(ModelProto(), folder)
    _copy(model, found.model, "graph")
    _copy(model.graph, found.model.graph, "initializer")
    tensors = (next(written) if _is_large(tensor) else tensor for tensor in model.graph.initializer)
    found.model.graph.initializer.extend(tensors)
    return found


def _is_large(tensor: TensorProto) -> bool:
    return tensor.HasField("raw_data") and size_of(tensor) >= _LARGE


def size_of(tensor: TensorProto) -> int:
    """Return the bytes of a tensor, 0 for a type that is none; protobuf would count them by writing it."""
    try:
        return math.prod(tensor.dims) * tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        return 0


def _written(tensors: Sequence[TensorProto], path: Path) -> Iterator[TensorProto]:
    """Write the values one after the other, and yield tensors that refer to them."""
    with path.open("wb") as file:
        for tensor in tensors:
            offset = file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
            place = {"location": _FILE, "offset": str(offset), "length": str(file.write(tensor.raw_data))}
            yield TensorProto(
                name=tensor.name,
                data_type=tensor.data_type,
                dims=tensor.dims,
                data_location=TensorProto.EXTERNAL,
                external_data=[StringStringEntryProto(key=key, value=value) for key, value in place.items()],
            )


def _copy(source: Any, target: ModelProto | GraphProto, left_out: str) -> None:
    """Take over every field but one."""
    for field, value in source.ListFields():
        if field.name == left_out:
            continue
        if isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            setattr(target, field.name, value)
