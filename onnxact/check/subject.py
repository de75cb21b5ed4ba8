"""path or ModelProto -> Subject: a model that can be inspected and handed to ONNX Runtime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from onnx import ModelProto

from onnxact.errors import ModelError

Source = ModelProto | str | os.PathLike[str]


@dataclass(frozen=True)
class Subject:
    """A model under check.

    `path` is the binary file that ONNX Runtime can load itself, None for a model in memory (or in protobuf's text
    format). `folder` is where relative external data lie. External weights are never read into `model`.
    """

    model: ModelProto
    path: Path | None
    folder: Path | None


def open_subject(source: Source, *, folder: str | os.PathLike[str] | None = None) -> Subject:
    """Read `source`; a ModelProto is taken as it is and never changed.

    `folder` is the one that the external data of a ModelProto are relative to. Raises ModelError where a file is
    missing, empty, or no ONNX model.
    """
    if isinstance(source, ModelProto):
        return Subject(source, None, None if folder is None else Path(folder))
    path = Path(source)
    model, binary = _parse(_read(path), path)
    return Subject(model, path if binary else None, path.parent)


def same_source(before: Source, after: Source) -> bool:
    """Whether the two are one object or one file, so that a comparison would say nothing."""
    if isinstance(before, ModelProto) or isinstance(after, ModelProto):
        return before is after
    paths = Path(before), Path(after)
    return all(path.exists() for path in paths) and paths[0].samefile(paths[1])


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"{path} is a folder; a model file is expected")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    if not data:
        raise ModelError(f"{path} is empty")
    return data


def _parse(data: bytes, path: Path) -> tuple[ModelProto, bool]:
    model = ModelProto()
    try:
        model.ParseFromString(data)
        binary = True
    except DecodeError as error:
        _parse_text(data, path, model, error)
        binary = False
    if not model.HasField("graph"):
        raise ModelError(f"{path} is not an ONNX model: it holds no graph")
    return model, binary


def _parse_text(data: bytes, path: Path, model: ModelProto, cause: DecodeError) -> None:
    model.Clear()
    try:
        text_format.Parse(data.decode(), model)
    except (UnicodeDecodeError, text_format.ParseError):
        raise ModelError(f"{path} is not an ONNX model, or is cut short: {cause}") from cause
