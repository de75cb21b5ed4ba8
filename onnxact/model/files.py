"""Models to and from disk. Weights in files of their own are neither read nor copied through memory.

load(path) -> ModelProto with external data left outside
save(model, path, origin=...) -> one atomic write; external data is copied by the kernel where the folder changes
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError, EncodeError
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper, parser, printer
from onnx.parser import ParseError

from onnxact.errors import FileConflictError, ModelError
from onnxact.model import atomic
from onnxact.model.view import subgraphs

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes; a protobuf message cannot be longer (protobuf.dev, "Proto Limits")."""
_OTHER_FILES = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with `git lfs pull`",
    b"PK\x03\x04": "a zip archive, as torch.save writes; unpack it, or export the model with torch.onnx.export",
    b"\x80\x02": "a Python pickle, as torch.save writes; export the model with torch.onnx.export",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"\x89HDF": "an HDF5 file, as Keras writes; convert the model with tf2onnx",
    b"<": "a page of HTML or XML; was the download refused?",
    b"{": "JSON; name it .json if it is a model in protobuf's JSON format",
}
"""How files begin that people take for models, or get in their place."""
_EXTERNAL_KEY = b"location"
"""What the bytes of every model with external data contain: the key under which a tensor names its file."""
_LONG = 1 << 24
"""Bytes of content from which on looking at the nodes is quicker than searching for that."""
_ONNX_TEXT = {".onnxtxt", ".onnxtext"}
_TEXT_SUFFIXES = {".onnxtxt", ".onnxtext", ".textproto", ".prototxt", ".pbtxt", ".json"}


def load(path: Path) -> ModelProto:
    """Return the model at `path` with its external data left in its files; see `read`."""
    return read(path)[0]


def read(path: Path) -> tuple[ModelProto, bytes]:
    """Return the model at `path`, with its external data left in its files, and the content of the file.

    The format follows the suffix: protobuf; .onnxtxt, .textproto, .prototxt, .pbtxt: protobuf's text format, or ONNX's
    own where the text starts with "<"; .json. Every external file that the model names
    has been found inside the model's folder, and long enough.

    Raises ModelError: nothing there, no model, truncated, over 2 GB, external data missing or outside the folder.
    """
    _require_file(path)
    model, content = _parse(path)
    if not model.HasField("graph") or not (model.graph.node or model.graph.output or model.graph.input):
        raise ModelError(f"{path}: holds no ONNX graph; is it an ONNX model?")
    if len(content) > _LONG or _EXTERNAL_KEY in content:
        check_external(model, path.parent, path)
    return model, content


def is_text(path: Path) -> bool:
    """Tell whether files of this suffix hold a model as text, which ONNX Runtime does not read."""
    return path.suffix.lower() in _TEXT_SUFFIXES


def _require_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {_why(error)}") from error
    if path.is_dir():
        raise ModelError(f"{path}: is a directory; name the .onnx file in it")
    if not path.is_file():
        raise ModelError(f"{path}: is a pipe or device; a model is read from a file")
    if size == 0:
        raise ModelError(f"{path}: is empty (0 bytes)")
    if size > PROTOBUF_LIMIT:
        raise ModelError(
            f"{path}: {size} bytes, over protobuf's limit of 2 GB in one message; save the model with external data"
        )


def _parse(path: Path) -> tuple[ModelProto, bytes]:
    content = b""
    try:
        content = path.read_bytes()
        return _decode(content, path.suffix.lower()), content
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {_why(error)}") from error
    except DecodeError as error:
        raise ModelError(f"{path}: {_what_else(content)}") from error
    except (text_format.ParseError, json_format.ParseError, ParseError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not an ONNX model in text, or is truncated ({_why(error)})") from error


def _what_else(content: bytes) -> str:
    """Return what a file that is no protobuf model seems to be, and what to do."""
    found = next((what for start, what in _OTHER_FILES.items() if content.startswith(start)), None)
    return f"is not an ONNX model but {found}" if found else "is not an ONNX model, or is truncated"


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
    """Return the reason in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


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


def check_external(model: ModelProto, folder: Path, name: Path | str) -> None:
    """Require that the model's external data lie in files inside `folder` that are long enough.

    Raises ModelError that names the tensor and the file: absolute paths, `..` and symbolic links that leave the
    folder, missing and short files, offsets and lengths that make no sense.
    """
    sizes: dict[str, int] = {}
    for tensor in external_tensors(model):
        place, what = location(tensor), f"{name}: external data of {_called(tensor)}"
        if place not in sizes:
            sizes[place] = _inside(folder, place, what).stat().st_size
        offset, length = _extent(tensor, what)
        if offset + length > sizes[place]:
            raise ModelError(
                f"{what}: {folder / place} has {sizes[place]} bytes, {offset + length} are needed; "
                "is the file truncated?"
            )


def _extent(tensor: TensorProto, what: str) -> tuple[int, int]:
    """Return where an external tensor begins in its file and how many bytes it takes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    needed = _bytes_of(tensor, what)
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or needed)
    except ValueError as error:
        raise ModelError(f"{what}: offset and length must be whole numbers") from error
    if offset < 0 or length < needed:
        raise ModelError(
            f"{what}: offset {offset} and length {length} make no sense for {list(tensor.dims)}, which takes "
            f"{needed} bytes"
        )
    return offset, length


def _bytes_of(tensor: TensorProto, what: str) -> int:
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"{what}: its shape {list(tensor.dims)} has a negative dimension")
    return -(-math.prod(tensor.dims) * _bits(tensor.data_type) // 8)


def _bits(data_type: int) -> int:
    """Return the bits of one element as ONNX stores it, 0 for a type that has no fixed size or is not known."""
    if data_type in _PACKED:
        return _PACKED[data_type]
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8 * (data_type != TensorProto.STRING)
    except (KeyError, TypeError, ValueError):
        return 0


_PACKED = {
    getattr(TensorProto, name): bits
    for name, bits in {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}.items()
    if hasattr(TensorProto, name)
}
"""Element types of which several share a byte (onnx.proto, TensorProto.int32_data)."""


def _inside(folder: Path, place: str, what: str) -> Path:
    if not place:
        raise ModelError(f"{what}: no file is named")
    if Path(place).is_absolute() or ".." in Path(place).parts:
        raise ModelError(f"{what}: {place!r} points outside the model's folder {folder}; move the file into it")
    file = folder / place
    try:
        resolved = file.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{what}: {str(file)!r} cannot be read: {_why(error)}") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise ModelError(f"{what}: {file} is a symbolic link out of the model's folder; copy the file into it")
    if not resolved.is_file():
        raise ModelError(f"{what}: {file} is not a file")
    return file


def _called(tensor: TensorProto) -> str:
    return repr(tensor.name) if tensor.name else f"a tensor without a name, of shape {list(tensor.dims)}"


def read_external(tensor: TensorProto, folder: Path | None) -> NDArray[Any] | None:
    """Return the value of one external tensor, or None for a model without a folder."""
    if folder is None:
        return None
    what = f"external data of {_called(tensor)}"
    file = _inside(folder, location(tensor), what)
    offset, length = _extent(tensor, what)
    with file.open("rb") as stream:
        stream.seek(offset)
        raw = stream.read(length)
    filled = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=raw)
    return numpy_helper.to_array(filled)


# Writing


def check_writable(path: Path, origin: Path | None, *, force: bool, in_place: bool) -> None:
    """Refuse an output that would overwrite something: the input without `in_place`, another file without `force`."""
    try:
        _refuse_conflict(path, origin, force=force, in_place=in_place)
    except (OSError, RuntimeError, ValueError) as error:
        raise FileConflictError(f"{path}: cannot be written: {_why(error)}") from error


def _refuse_conflict(path: Path, origin: Path | None, *, force: bool, in_place: bool) -> None:
    if not path.parent.is_dir():
        raise FileConflictError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise FileConflictError(f"{path}: is a directory; name a file in it")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    if path.exists() and not path.is_file():
        raise FileConflictError(f"{path}: is a pipe or device; name a file")
    if origin is not None and origin.exists() and path.exists() and path.samefile(origin):
        if not in_place:
            raise FileConflictError(f"{path}: is the input itself; give --in-place to change it, or another --output")
        return
    if not force:
        raise FileConflictError(f"{path}: exists; give --force to overwrite it, or another --output")


def save(model: ModelProto, path: Path, *, origin: Path | None = None, force: bool = False) -> None:
    """Write the model to `path`: a temporary file beside it, synced, then renamed. Old or new, never half.

    `origin` is where the model was loaded from. External data is left where it is while the folder stays the same;
    otherwise each file is copied beside the output by the kernel (copy_file_range, reflink where there is one). An
    existing file of that name is a FileConflictError unless `force`, an output that is one of the model's own data
    files always. A symbolic link is followed: what it points to is replaced.
    """
    content = _serialized(model, path)
    try:
        outside = origin if origin is not None and _EXTERNAL_KEY in content else None
        copies = {} if outside is None else _copies(model, outside, path, force=force)
        target = path.resolve() if path.is_symlink() else path
        atomic.write_all({**{to: atomic.copied(source) for to, source in copies.items()}, target: atomic.put(content)})
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{path}: cannot be written: {_why(error)}; nothing was changed") from error


def _copies(model: ModelProto, origin: Path, path: Path, *, force: bool) -> dict[Path, Path]:
    """Return copy -> source for the external files that must follow the model to another folder."""
    places = dict.fromkeys(location(tensor) for tensor in external_tensors(model))
    for place in places:
        if path.exists() and path.samefile(origin.parent / place):
            raise FileConflictError(f"{path}: holds weights of the model; give another --output")
    if path.parent.resolve() == origin.parent.resolve():
        return {}
    copies = {path.parent / place: origin.parent / place for place in places}
    for copy, source in copies.items():
        if copy.exists() and not force:
            raise FileConflictError(f"{copy}: exists, and would be overwritten by {source}; give --force to do so")
    return copies


def _as_text(model: ModelProto, suffix: str) -> str:
    """Return ONNX's own text for .onnxtxt where it says everything, else protobuf's text format; `load` reads both."""
    if suffix in _ONNX_TEXT:
        text: str = printer.to_text(model)
        try:
            if parser.parse_model(text) == model:
                return text
        except ParseError:
            pass
    return str(text_format.MessageToString(model))


def format_note(path: Path) -> str:
    """Return what a reader of a file written as ONNX's own text has to know; empty where it is that."""
    if path.suffix.lower() not in _ONNX_TEXT or path.read_bytes()[:1] == b"<":
        return ""
    return "in protobuf's text format, because ONNX's own text does not hold all of the model"


def _serialized(model: ModelProto, path: Path) -> bytes:
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return str(json_format.MessageToJson(model, preserving_proto_field_name=True)).encode()
        if suffix in _TEXT_SUFFIXES:
            return _as_text(model, suffix).encode()
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise ModelError(f"{path}: cannot be written as one file: {error}; over 2 GB needs external data") from error
