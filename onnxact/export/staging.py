"""onnx_ir.Model -> files in a folder beside the output, which become the output when everything is found right.

Weights go into one file with the graph, or, above a size, into `<name>.data` beside it: straight from PyTorch's
memory to the file, without a copy.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from onnx import ModelProto

from onnxact.errors import FileConflictError, ModelError
from onnxact.model import atomic, files

EXTERNAL_FROM = 2**28
"""Bytes of weights from which they get a file of their own; protobuf ends at 2 GB, and below it takes copies."""
_SMALL = 2**10
"""Bytes below which a tensor stays with the graph: shapes and axes, which readers need to infer shapes."""
_PAGE = 2**12
"""Where large tensors begin in a file, so that they can be mapped into memory (onnx.proto, "external_data")."""


@dataclass(frozen=True)
class Staged:
    """A model in a folder of its own, under the names that it will have beside `output`."""

    folder: Path
    output: Path

    @property
    def path(self) -> Path:
        """The model."""
        return self.folder / self.output.name

    @property
    def data(self) -> Path:
        """Where its weights are, if they have a file of their own."""
        return self.folder / data_name(self.output)

    def write(self, model: Any, external_from: int) -> ModelProto:
        """Write an onnx_ir.Model here; return it with external data left outside."""
        return _write(model, self.path, self.data, external_from)

    def save(self, model: ModelProto) -> None:
        """Write a rewritten model over the one that is here; its external data stay as they are."""
        files.save(model, self.path, origin=self.path, force=True)

    def publish(self, *, force: bool) -> tuple[Path, ...]:
        """Move the files to their places, weights first. Raises FileConflictError for what is there, unless `force`."""
        demand_writable(self.output, external=self.data.exists(), force=force)
        moved = []
        for source in (self.data, self.path):
            if source.exists():
                target = self.output.parent / source.name
                source.replace(target.resolve() if target.is_symlink() else target)
                moved.append(target)
        return tuple(reversed(moved))


@contextmanager
def staging(output: Path) -> Iterator[Staged]:
    """Yield a place for a model in a hidden folder beside `output`; what is left in it is deleted."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".onnxact-", dir=output.parent))
    except OSError as error:
        raise FileConflictError(f"{output}: cannot be written: {error.strerror or error}") from error
    try:
        yield Staged(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def data_name(output: Path) -> str:
    """Return the name of the file of weights that belongs to a model."""
    return f"{output.name}.data"


def demand_writable(output: Path, *, external: bool, force: bool) -> None:
    """Raise FileConflictError where the output, or the file of its weights, cannot be written or is there already."""
    files.check_writable(output, None, force=force, in_place=False)
    if external:
        files.check_writable(output.with_name(data_name(output)), None, force=force, in_place=False)


def external_weights(model: Any) -> int:
    """Return how many bytes of an onnx_ir.Model could go into a file of their own; -1 for none."""
    sizes = [value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None]
    return sum(size for size in sizes if size >= _SMALL) or -1


def _write(model: Any, path: Path, data: Path, external_from: int) -> ModelProto:
    import onnx_ir

    if external_weights(model) >= external_from:
        try:
            atomic.write_all({data: _externalised(model, data.name)})
        except OSError as error:
            raise ModelError(f"{data.name}: cannot be written: {error.strerror or error}") from error
    proto: ModelProto = onnx_ir.serde.serialize_model(model)
    files.save(proto, path)
    return proto


def _externalised(model: Any, name: str) -> Callable[[IO[bytes]], None]:
    """Let the large initializers of `model` refer to a file; return what writes them into it."""
    import onnx_ir

    placed: list[tuple[int, Any]] = []
    end = 0
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < _SMALL:
            continue
        offset = -(-end // _PAGE) * _PAGE
        placed.append((offset, tensor))
        end = offset + tensor.nbytes
        value.const_value = onnx_ir.ExternalTensor(
            name, offset, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name
        )

    def write(stream: IO[bytes]) -> None:
        for offset, tensor in placed:
            stream.seek(offset)
            tensor.tofile(stream)

    return write
