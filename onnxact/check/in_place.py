"""(a model file, a model with the same weights) -> both without them: they stay where they are in the file.

model.onnx with W, 64 MB from byte 1,203 on  ->  W: external data in model.onnx, offset 1203, length 67108864

Nothing large is read into memory, parsed or written: sessions map the file. What the file says is found by its fields:
a varint of number and wire type each, then a varint, 4 or 8 bytes, or a length and as many bytes
(protobuf.dev/programming-guides/encoding). ONNX Runtime takes weights at any offset.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from onnxact.check.fingerprint import digest
from onnxact.check.options import RuntimeOptions
from onnxact.check.subject import Source, Subject
from onnxact.check.weights import LARGE, WORTHWHILE, are_repeated, external, is_large, referring, size_of
from onnxact.model.files import external_tensors, is_text

Bytes = NDArray[np.uint8]

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Field numbers in ModelProto, GraphProto and TensorProto (onnx.proto)."""
_PLAIN = {1, 2, 8, 9, 12}
"""The fields that a tensor with raw data has: dims, data_type, name, raw_data, doc_string."""
_LONGEST = 5
"""Bytes of the longest length that protobuf's parsers take."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_START, _BLOCK = 1 << 16, 1 << 20


def open_in_place(before: Source, after: Source, options: RuntimeOptions) -> tuple[Subject, Subject] | None:
    """Both models with the large weights of the first one's file left in it.

    None where `before` is no binary file with many of them and no other external data, or `after` has others: then
    nothing is known of either, not even that there is such a file.
    """
    try:
        return _opened(before, after, options)
    except (OSError, ValueError, IndexError, KeyError, OverflowError, DecodeError):
        return None


def _opened(before: Source, after: Source, options: RuntimeOptions) -> tuple[Subject, Subject] | None:
    if isinstance(before, ModelProto) or is_text(Path(before)):
        return None
    first = _Kept.of(Path(before))
    if first is None:
        return None
    places = _Places(first)
    if isinstance(after, ModelProto):
        second, title = _without(after, places), ""
    else:
        second, title = None if is_text(Path(after)) else _without_those_of(Path(after), places), str(after)
    if second is None:
        return None
    folder = first.path.parent
    return (
        Subject(first.model, None, folder, options, title=str(before)),
        Subject(second, None, folder, options, title=title),
    )


class _Kept(NamedTuple):
    """The model of a file, whose large weights refer to their place in it, and the file's content."""

    path: Path
    model: ModelProto
    content: Bytes

    @classmethod
    def of(cls, path: Path) -> _Kept | None:
        """None where the file has few large weights, or external data."""
        path = path.resolve(strict=True)
        if path.stat().st_size < WORTHWHILE:
            return None
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            message, count = _stripped(content, path.name)
            model = ModelProto.FromString(message)
        kept = list(external_tensors(model))
        few = sum(map(size_of, kept)) < WORTHWHILE
        if few or len(kept) != count or are_repeated(model.graph):
            return None
        return cls(path, model, np.memmap(path, np.uint8, mode="r"))

    @property
    def tensors(self) -> list[TensorProto]:
        """The weights that are left in the file."""
        return [tensor for tensor in self.model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]

    def raw(self, tensor: TensorProto) -> Bytes:
        """The bytes of one of them."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        start = int(entries["offset"])
        return self.content[start : start + int(entries["length"])]


class _Places:
    """Finds weights in a file by their content."""

    def __init__(self, kept: _Kept) -> None:
        self.kept = kept
        self.known: dict[bytes, list[TensorProto]] = {}
        for tensor in kept.tensors:
            self.known.setdefault(_key(kept.raw(tensor)), []).append(tensor)

    def of(self, tensor: TensorProto, raw: Bytes) -> TensorProto | None:
        """The tensor with its values in the file, None where they are not there."""
        for other in self.known.get(_key(raw), ()):
            if _are_equal(raw, self.kept.raw(other)):
                entries = {entry.key: entry.value for entry in other.external_data}
                return external(tensor, entries["location"], int(entries["offset"]), raw.size)
        return None


def _without(model: ModelProto, places: _Places) -> ModelProto | None:
    """A model in memory that refers to the same weights in a file."""
    if next(external_tensors(model), None) is not None or are_repeated(model.graph):
        return None
    found = [
        places.of(tensor, np.frombuffer(tensor.raw_data, np.uint8))
        for tensor in filter(is_large, model.graph.initializer)
    ]
    return referring(model, [tensor for tensor in found if tensor is not None]) if all(found) else None


def _without_those_of(path: Path, places: _Places) -> ModelProto | None:
    """The model of another file that refers to the same weights in the first."""
    kept = _Kept.of(path)
    if kept is None:
        return None
    for tensor in kept.tensors:
        found = places.of(tensor, kept.raw(tensor))
        if found is None:
            return None
        tensor.CopyFrom(found)
    return kept.model


def _key(raw: Bytes) -> bytes:
    return digest(b"%d" % raw.size, raw[:_START].tobytes())


def _are_equal(one: Bytes, other: Bytes) -> bool:
    starts = range(0, one.size, _BLOCK)
    return one.size == other.size and all(
        bool((one[start : start + _BLOCK] == other[start : start + _BLOCK]).all()) for start in starts
    )


# The fields of a file


class _Field(NamedTuple):
    """Where a field begins, where its value does, and where it ends."""

    number: int
    kind: int
    start: int
    value: int
    end: int


def _stripped(content: mmap.mmap, name: str) -> tuple[bytes, int]:
    """The message of a model without the large weights of its main graph, and how many these are. ValueError for what
    is no such message.
    """
    graphs = [field for field in _fields(content, 0, len(content)) if field.number == _GRAPH]
    if len(graphs) != 1 or graphs[0].kind != _LENGTH:
        raise ValueError("not one graph")
    graph = graphs[0]
    parts, kept, count = [], graph.value, 0
    for field in _fields(content, graph.value, graph.end):
        if field.number == _INITIALIZER and field.kind == _LENGTH and field.end - field.value >= LARGE:
            tensor = _stripped_tensor(content, field, name)
            if tensor is not None:
                parts += [content[kept : field.start], _tagged(_INITIALIZER, tensor.SerializeToString())]
                kept, count = field.end, count + 1
    inner = b"".join([*parts, content[kept : graph.end]])
    return content[: graph.start] + _tagged(_GRAPH, inner) + content[graph.end :], count


def _stripped_tensor(content: mmap.mmap, field: _Field, name: str) -> TensorProto | None:
    """A tensor that refers to its raw data; None for one that has none, or more than that."""
    parts = list(_fields(content, field.value, field.end))
    raw = [part for part in parts if part.number == _RAW_DATA]
    if len(raw) != 1 or raw[0].kind != _LENGTH or not {part.number for part in parts} <= _PLAIN:
        return None
    tensor = TensorProto.FromString(content[field.value : raw[0].start] + content[raw[0].end : field.end])
    size = raw[0].end - raw[0].value
    return external(tensor, name, raw[0].value, size) if size_of(tensor) == size >= LARGE else None


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    at = start
    while at < end:
        tag, value = _varint(content, at)
        kind = tag & 7
        if kind == _LENGTH:
            size, stated = _varint(content, value)
            if stated - value > _LONGEST:
                raise ValueError("a length is too long")
            value, stop = stated, stated + size
        elif kind == _VARINT:
            stop = _varint(content, value)[1]
        elif kind in (_FIXED32, _FIXED64):
            stop = value + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {kind}")
        yield _Field(tag >> 3, kind, at, value, stop)
        at = stop
    if at != end:
        raise ValueError("a field is longer than its message")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """The number that begins here, and where it ends. ValueError for one of more than 64 bits."""
    number = 0
    for shift in range(0, 64, 7):
        byte = content[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
    raise ValueError("a number is too long")


def _tagged(number: int, value: bytes) -> bytes:
    return _as_varint(number << 3 | _LENGTH) + _as_varint(len(value)) + value


def _as_varint(number: int) -> bytes:
    parts: Sequence[int] = ()
    while number > 0x7F:
        parts = (*parts, number & 0x7F | 0x80)
        number >>= 7
    return bytes((*parts, number))
