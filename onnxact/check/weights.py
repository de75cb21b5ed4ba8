"""A model with its weights in itself -> the same with the large ones in a file, which sessions map into memory.

100 MB of weights, eight sessions: 100 MB written once, not eight messages of 100 MB that are made, parsed and copied

A process that is killed leaves the folder behind, `onnxact-...` among the temporary files.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, StringStringEntryProto, TensorProto, numpy_helper
from onnx.helper import tensor_dtype_to_np_dtype

from onnxact.check.fingerprint import digest
from onnxact.errors import ModelError
from onnxact.model.files import external_tensors, location, read_external

LARGE = 1 << 16
"""Bytes from which on a tensor is worth a place in the file."""
WORTHWHILE = 1 << 22
"""Bytes of all such tensors from which on the file is worth it."""
_ALIGNMENT = 1 << 12
_BLOCK, _START = 1 << 18, 1 << 16


_KNOWN: weakref.WeakValueDictionary[str, Weights] = weakref.WeakValueDictionary()
"""The files of this process, by their names, which are those of their folders."""


def value_of(tensor: TensorProto, folder: Path | None = None) -> NDArray[Any] | None:
    """The value of a tensor: in a model, in one of these files, or in one of `folder`; None where it cannot be read."""
    try:
        if tensor.data_location != TensorProto.EXTERNAL:
            return np.asarray(numpy_helper.to_array(tensor))
        known = _KNOWN.get(location(tensor))
        return read_external(tensor, folder if known is None else known.folder)
    except (ModelError, ValueError, TypeError, KeyError, OSError):
        return None


class Weights:
    """A temporary folder with one file of weights, each value once, which is there as long as this object.

    `folder` is None as long as nothing was written. `remembers`: the models stay in memory as they are, so that their
    weights are told to be equal there.
    """

    def __init__(self, *, remembers: bool = False) -> None:
        self.folder: Path | None = None
        self.remembers = remembers
        self._known: dict[str, tuple[TensorProto, TensorProto]] = {}
        self._places: dict[bytes, list[int]] = {}

    def taken_out_of(self, model: ModelProto) -> ModelProto | None:
        """Write the large weights of the main graph to the file, and return the model that refers to them there.

        None where there are few, where some lie in files already, where two have one name (ONNX Runtime takes the first
        of those in a model, the last of those in a file), or where there is no room for the file.
        """
        large = [tensor for tensor in model.graph.initializer if is_large(tensor)]
        few = not self._places and sum(map(size_of, large)) < WORTHWHILE
        if not large or few or are_repeated(model.graph) or next(external_tensors(model), None) is not None:
            return None
        try:
            written = self._written(large)
        except OSError:
            return None
        return referring(model, written)

    def _written(self, tensors: Sequence[TensorProto]) -> list[TensorProto]:
        """Tensors that refer to the same values in the file."""
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="onnxact-")).resolve()
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            _KNOWN[self.folder.name] = self
        path, found = self.folder / self.folder.name, []
        for tensor in tensors:
            original, written = self._known.get(tensor.name, (None, None))
            if written is None or original != tensor:
                written = self._stored(tensor, path)
            if self.remembers:
                self._known[tensor.name] = tensor, written
            found.append(written)
        return found

    def _stored(self, tensor: TensorProto, path: Path) -> TensorProto:
        raw = tensor.raw_data
        return external(tensor, path.name, self._place(path, raw), len(raw))

    def _place(self, path: Path, raw: bytes) -> int:
        """Where the file has these bytes."""
        start = digest(b"%d" % len(raw), raw[:_START])
        known = self._places.get(start, ())
        found = next((offset for offset in known if _holds(path, offset, raw)), None)
        if found is not None:
            return found
        with path.open("ab") as file:
            offset = file.seek(0, os.SEEK_END)
            padding = -offset % _ALIGNMENT
            file.write(bytes(padding))
            file.write(raw)
        self._places.setdefault(start, []).append(offset + padding)
        return offset + padding


def external(tensor: TensorProto, place: str, offset: int, length: int) -> TensorProto:
    """A tensor of the same name, type and shape with its values in a file."""
    entries = {"location": place, "offset": str(offset), "length": str(length)}
    return TensorProto(
        name=tensor.name,
        data_type=tensor.data_type,
        dims=tensor.dims,
        data_location=TensorProto.EXTERNAL,
        external_data=[StringStringEntryProto(key=key, value=value) for key, value in entries.items()],
    )


def referring(model: ModelProto, large: Iterable[TensorProto]) -> ModelProto:
    """The model with its large weights replaced, in their order."""
    found, others = ModelProto(), iter(large)
    _copy(model, found, "graph")
    _copy(model.graph, found.graph, "initializer")
    found.graph.initializer.extend(next(others) if is_large(tensor) else tensor for tensor in model.graph.initializer)
    return found


def are_repeated(graph: GraphProto) -> bool:
    """Whether two initializers have one name."""
    return len({tensor.name for tensor in graph.initializer}) < len(graph.initializer)


def _holds(path: Path, offset: int, raw: bytes) -> bool:
    """Whether these bytes are in the file at this place; a block at a time, so that others are told at once."""
    given, block = memoryview(raw), bytearray(_BLOCK)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        for start in range(0, len(raw), _BLOCK):
            part = given[start : start + _BLOCK]
            if file.readinto(block) < len(part) or block[: len(part)] != part:
                return False
    return True


def is_large(tensor: TensorProto) -> bool:
    """Whether a tensor is worth a place in a file."""
    return tensor.HasField("raw_data") and size_of(tensor) >= LARGE


def size_of(tensor: TensorProto) -> int:
    """Return the bytes of a tensor, 0 for a type that is none; protobuf would count them by writing it."""
    return math.prod(tensor.dims) * _item_size(tensor.data_type)


@cache
def _item_size(elem_type: int) -> int:
    try:
        return tensor_dtype_to_np_dtype(elem_type).itemsize
    except KeyError:
        return 0


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
