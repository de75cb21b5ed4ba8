"""Models in whatever form they come, and back in the same form.

path | ModelProto | onnx_graphsurgeon.Graph | onnx_ir.Model  ->  Source  ->  the same kind, edited
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from onnx import ModelProto

from onnxact.errors import UsageError
from onnxact.model.edit import Plan, apply
from onnxact.model.files import load, read
from onnxact.model.provenance import KEY
from onnxact.model.view import View


class Source(Protocol):
    """A model that was handed in. `proto` is onnxact's own to edit; what was handed in is never touched."""

    proto: ModelProto
    folder: Path | None
    """Where external data lies; None where there is no place."""
    path: Path | None
    """The file, for a model that was handed in as one."""

    recorded: bool
    """Whether a node may say what it was before it was decomposed."""

    def original(self) -> ModelProto:
        """Return the model as it was handed in; the caller may change the copy."""
        ...

    def rewritten(self, view: View, plan: Plan) -> Any:
        """Carry out the plan and return the result in the kind that was handed in (a ModelProto for a file)."""
        ...


class FileSource:
    """A model in a file."""

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.folder: Path | None = path.parent
        self.proto, content = read(path)
        self.recorded = KEY.encode() in content
        self._path = path

    def original(self) -> ModelProto:
        """Return the file's content, read anew."""
        return load(self._path)

    def rewritten(self, view: View, plan: Plan) -> ModelProto:
        """Edit the loaded model in place."""
        apply(view, plan)
        return self.proto


class ProtoSource:
    """A ModelProto; the rewrite happens on a copy."""

    recorded = True

    def __init__(self, model: ModelProto) -> None:
        self.path: Path | None = None
        self.folder: Path | None = None
        self._model = model
        self.proto = self.original()

    def original(self) -> ModelProto:
        """Return a copy."""
        copy = ModelProto()
        copy.CopyFrom(self._model)
        return copy

    def rewritten(self, view: View, plan: Plan) -> ModelProto:
        """Edit the copy in place."""
        apply(view, plan)
        return self.proto


def open_source(model: Any) -> Source:
    """Return the model as a source, by its kind; a kind that onnxact does not know is a UsageError."""
    if isinstance(model, (str, Path)):
        return FileSource(Path(model))
    if isinstance(model, ModelProto):
        return ProtoSource(model)
    package = type(model).__module__.partition(".")[0]
    if package == "onnx_graphsurgeon":
        from onnxact.interop.graphsurgeon import GraphSource

        return GraphSource(model)
    if package == "onnx_ir":
        from onnxact.interop.ir import IrSource

        return IrSource(model)
    raise UsageError(
        f"a model must be a path, a ModelProto, an onnx_graphsurgeon.Graph or an onnx_ir.Model, "
        f"not {type(model).__module__}.{type(model).__qualname__}"
    )
