"""Models to and from disk. Weights in files of their own are neither read nor copied through memory.

load(path) -> ModelProto with external data left outside
save(model, path, origin=...) -> one atomic write; external data is copied by the kernel where the folder changes
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError, EncodeError
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper, parser
from onnx.parser import ParseError

from onnxact.errors import FileConflictError, ModelError
from onnxact.model.view import subgraphs

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes; a protobuf message cannot be longer (protobuf.dev, "Proto Limits")."""
_TEXT_SUFFIXES = {".onnxtxt", ".onnxtext", ".textproto", ".prototxt", ".pbtxt", ".json"}


def load(path: Path) -> ModelProto:
    """Return the model at `path` with its external data left in its files.

    The format follows the suffix: protobuf; .onnxtxt, .textproto, .prototxt, .pbtxt: protobuf's text format, or ONNX's
    own where the text starts with "<"; .json. Every external file that the model names
    has been found inside the model's folder, and long enough.

    Raises ModelError: nothing there, no model, truncated, over 2 GB, external data missing or outside the folder.
    """
    _require_file(path)
    model = _parse(path)
    if not model.HasField("graph") or not (model.graph.node or model.graph.output or model.graph.input):
        raise ModelError(f"{path}: holds no ONNX graph; is it an ONNX model?")
    check_external(model, path.parent, path)
    return model


def _require_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {_why(error)}") from error
    if path.is_dir():
        raise ModelError(f"{path}: is a directory; name the .onnx file in it")
    if size == 0:
        raise ModelError(f"{path}: is empty (0 bytes)")
    if size > PROTOBUF_LIMIT:
        raise ModelError(
            f"{path}: {size} bytes, over protobuf's limit of 2 GB in one message; save the model with external data"
        )


def _parse(path: Path) -> ModelProto:
    try:
        return _decode(path.read_bytes(), path.suffix.lower())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {_why(error)}") from error
    except (DecodeError, text_format.ParseError, json_format.ParseError, ParseError, ValueError) as error:
        raise ModelError(f"{path}: is not an ONNX model, or is truncated ({error})") from error


def _decode(content: bytes, suffix: str) -> ModelProto:
    model = ModelProto()
    if suffix == ".json":
        json_format.Parse(content.decode(), model)
    elif suffix not in _TEXT_SUFFIXES:
        model.ParseFromString(content)
    elif content.lstrip().startswith(b"<"):
        model = parser.parse_model(content.decode())
    else:
        text_format.Parse(content.decode(), model)
    return model


def _why(error: BaseException) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


# External data


def external_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor, in any scope, whose values lie in a file beside the model."""
    for function in model.functions:
        for node in function.node:
            yield from _external_in_node(node)
    yield from _external_in_graph(model.graph)
    for training in model.training_info:
        yield from _external_in_graph(training.initialization)
        yield from _external_in_graph(training.algorithm)


def _external_in_graph(graph: GraphProto) -> Iterator[TensorProto]:
    sparse = (tensor for entry in graph.sparse_initializer for tensor in (entry.values, entry.indices))
    for tensor in (*graph.initializer, *sparse):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor
    for node in graph.node:
        if node.attribute:
            yield from _external_in_node(node)


def _external_in_node(node: onnx.NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        for tensor in (attribute.t, *attribute.tensors) if attribute.HasField("t") or attribute.tensors else ():
            if tensor.data_location == TensorProto.EXTERNAL:
                yield tensor
    for _, graph in subgraphs(node):
        yield from _external_in_graph(graph)


def location(tensor: TensorProto) -> str:
    """Return the file name of an external tensor as the model gives it."""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def check_external(model: ModelProto, folder: Path, name: Path | str) -> dict[str, Path]:
    """Return location -> file for the model's external data, each inside `folder` and long enough.

    Raises ModelError that names the tensor and the file: absolute paths, `..` and symbolic links that leave the
    folder, missing and short files.
    """
    files: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for tensor in external_tensors(model):
        place = location(tensor)
        if place not in files:
            files[place] = _inside(folder, place, f"{name}: external data of {tensor.name!r}")
            sizes[place] = files[place].stat().st_size
        offset, length = _extent(tensor, sizes[place])
        if offset < 0 or length < 0 or offset + length > sizes[place]:
            raise ModelError(
                f"{name}: external data of {tensor.name!r}: {files[place]} has {sizes[place]} bytes, "
                f"{offset + length} are needed; is the file truncated?"
            )
    return files


def _extent(tensor: TensorProto, size: int) -> tuple[int, int]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset = int(entries.get("offset", "0") or 0)
        needed = _bytes_of(tensor)
        return offset, max(int(entries.get("length", "0") or 0), needed)
    except ValueError as error:
        raise ModelError(f"external data of {tensor.name!r}: offset and length must be whole numbers") from error


def _bytes_of(tensor: TensorProto) -> int:
    try:
        bits = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
    except (KeyError, TypeError):
        return 0
    packed = {TensorProto.INT4: 4, TensorProto.UINT4: 4}.get(tensor.data_type)
    count = int(np.prod(tensor.dims, dtype=np.int64)) if tensor.dims else 1
    return -(-count * (packed or bits) // 8) if packed or tensor.data_type != TensorProto.STRING else 0


def _inside(folder: Path, place: str, what: str) -> Path:
    file = folder / place
    if not place or Path(place).is_absolute() or ".." in Path(place).parts:
        raise ModelError(f"{what}: {place!r} points outside the model's folder {folder}; move the file into it")
    try:
        resolved = file.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{what}: {file} is missing") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise ModelError(f"{what}: {file} is a symbolic link out of the model's folder; copy the file into it")
    if not resolved.is_file():
        raise ModelError(f"{what}: {file} is not a file")
    return file


def read_external(tensor: TensorProto, folder: Path | None) -> NDArray[Any] | None:
    """Return the value of one external tensor, or None for a model without a folder."""
    if folder is None:
        return None
    file = _inside(folder, location(tensor), f"external data of {tensor.name!r}")
    offset, length = _extent(tensor, file.stat().st_size)
    with file.open("rb") as stream:
        stream.seek(offset)
        raw = stream.read(length)
    filled = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=raw)
    return numpy_helper.to_array(filled)


# Writing


def check_writable(path: Path, origin: Path | None, *, force: bool, in_place: bool) -> None:
    """Refuse an output that would overwrite something: the input without `in_place`, another file without `force`."""
    if not path.parent.is_dir():
        raise FileConflictError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise FileConflictError(f"{path}: is a directory; name a file in it")
    if not path.exists():
        return
    if origin is not None and origin.exists() and path.samefile(origin):
        if not in_place:
            raise FileConflictError(f"{path}: is the input itself; give --in-place to change it, or another --output")
        return
    if not force:
        raise FileConflictError(f"{path}: exists; give --force to overwrite it, or another --output")


def save(model: ModelProto, path: Path, *, origin: Path | None = None, force: bool = False) -> None:
    """Write the model to `path`: a temporary file beside it, synced, then renamed. Old or new, never half.

    `origin` is where the model was loaded from. External data is left where it is while the folder stays the same;
    otherwise each file is copied beside the output by the kernel (copy_file_range, reflink where there is one). An
    existing file of that name that is not a copy of it is a FileConflictError unless `force`.
    """
    target = path.resolve() if path.is_symlink() else path
    copies = _copies(model, origin, target.parent) if origin is not None else {}
    for source, copy in copies.items():
        if copy.exists() and not force:
            raise FileConflictError(f"{copy}: exists and is not {source}; give --force to overwrite it")
    try:
        for source, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            _replace_atomically(copy, lambda stream, source=source: _copy(source, stream))
        content = _serialized(model, target)
        _replace_atomically(target, lambda stream: stream.write(content))
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {_why(error)}; nothing was changed") from error


def _serialized(model: ModelProto, path: Path) -> bytes:
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return str(json_format.MessageToJson(model, preserving_proto_field_name=True)).encode()
        if suffix in _TEXT_SUFFIXES:
            return str(text_format.MessageToString(model)).encode()
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be written as one file: {error}; over 2 GB needs external data") from error


def _copies(model: ModelProto, origin: Path, folder: Path) -> dict[Path, Path]:
    """Return source -> copy for the external files that must follow the model to another folder."""
    if folder.resolve() == origin.parent.resolve():
        return {}
    places = dict.fromkeys(location(tensor) for tensor in external_tensors(model))
    return {origin.parent / place: folder / place for place in places}


def _replace_atomically(path: Path, write: Any) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, stream: Any) -> None:
    """Copy a file without bringing its content into this process; holes of a sparse file stay holes."""
    with source.open("rb") as origin:
        size = os.fstat(origin.fileno()).st_size
        if not hasattr(os, "copy_file_range"):
            shutil.copyfileobj(origin, stream)
            return
        stream.truncate(size)
        position = 0
        while position < size:
            start, end = _next_data(origin.fileno(), position, size)
            position = start
            while position < end:
                position += _copy_range(origin.fileno(), stream.fileno(), position, end - position)


def _next_data(descriptor: int, position: int, size: int) -> tuple[int, int]:
    """Return the next stretch of a file that is not a hole."""
    try:
        start = os.lseek(descriptor, position, os.SEEK_DATA)
        return start, os.lseek(descriptor, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        return position, size


def _copy_range(source: int, target: int, position: int, count: int) -> int:
    count = min(count, 2**30)
    try:
        copied = os.copy_file_range(source, target, count, position, position)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
        os.lseek(target, position, os.SEEK_SET)
        copied = os.sendfile(target, source, position, count)
    if copied == 0:
        raise OSError(errno.EIO, "the external data changed while it was copied")
    return copied
