"""path or ModelProto -> Subject: a model that can be inspected and handed to ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from onnx import ModelProto

from onnxact.check.options import RuntimeOptions
from onnxact.check.weights import Weights, size_of
from onnxact.model.files import is_text, load
from onnxact.model.view import View

Source = ModelProto | str | os.PathLike[str]

_SMALL = 1 << 24


@dataclass(frozen=True)
class Subject:
    """A model under check, and how ONNX Runtime is set up for it.

    `path` is the binary file that ONNX Runtime can load itself, None for a model in memory (or in protobuf's text
    format). `folder` is where relative external data lie. External weights are never read into `model`. `weights` is
    where large ones are put, so that sessions share them. `title` is the file's name, for messages.
    """

    model: ModelProto
    path: Path | None
    folder: Path | None
    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    weights: Weights = field(default_factory=Weights, compare=False)
    title: str = ""

    @property
    def with_external_weights(self) -> Subject:
        """The same with its large weights in a temporary file, which is there as long as `weights` is."""
        return self._externalised or self

    @cached_property
    def _externalised(self) -> Subject | None:
        found = self.weights.taken_out_of(self.model)
        return None if found is None else replace(self, model=found, path=None, folder=self.weights.folder)

    @cached_property
    def view(self) -> View:
        """The model, indexed. It must not change from then on."""
        return View(self.model, self.folder)

    def has_content_of(self, other: Subject) -> bool:
        """Whether two models are equal to the byte, and read the same files."""
        return self.folder == other.folder and bool(self.model == other.model)

    @property
    def serialized(self) -> bytes:
        """The model as ONNX Runtime takes it. Small ones are kept, for every session takes them."""
        found: bytes = self.__dict__.get("_serialized") or self.model.SerializeToString()
        if len(found) <= _SMALL:
            self.__dict__["_serialized"] = found
        return found

    @property
    def weight_bytes(self) -> int:
        """The size of all initializers of the main graph, external ones included."""
        return sum(map(size_of, self.model.graph.initializer))


def open_subject(
    source: Source,
    *,
    folder: str | os.PathLike[str] | None = None,
    options: RuntimeOptions | None = None,
    weights: Weights | None = None,
    lean: bool = False,
) -> Subject:
    """Read `source`; a ModelProto is taken as it is and never changed.

    `folder` is the one that the external data of a ModelProto are relative to. `lean`: the large weights of a file are
    put into `weights` at once, and not held. Raises ModelError where a file is missing, empty, or no ONNX model, or its
    external data are not there.
    """
    chosen = options or RuntimeOptions()
    if isinstance(source, ModelProto):
        return Subject(source, None, None if folder is None else Path(folder), chosen, weights or Weights())
    path = Path(source)
    subject = Subject(load(path), None if is_text(path) else path, path.parent, chosen, weights or Weights(), str(path))
    return subject.with_external_weights if lean else subject


def without_inputs(subject: Subject, names: Collection[str]) -> Subject:
    """The model without some of its inputs, which nothing may read; the weights of a file stay where they are."""
    if not names:
        return subject
    model = ModelProto()
    model.CopyFrom(subject.model)
    kept = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return replace(subject, model=model, path=None)


def same_source(before: Source, after: Source) -> bool:
    """Whether the two are one object or one file, so that a comparison would say nothing."""
    if isinstance(before, ModelProto) or isinstance(after, ModelProto):
        return before is after
    paths = Path(before), Path(after)
    return all(path.exists() for path in paths) and paths[0].samefile(paths[1])
