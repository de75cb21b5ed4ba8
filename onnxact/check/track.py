"""(model, what to feed) -> a function that runs it once, as a deployment would: optimised, with the options asked for.

The inputs are those that a check makes up, one set, with the same guesses of open dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto, shape_inference

from onnxact.check.feeding import find_feeds, make_recipe
from onnxact.check.loading import UnloadableError
from onnxact.check.options import RuntimeOptions
from onnxact.check.providers import resolve_providers, runtime_options
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.timing import Runner
from onnxact.model.inference import without_weights
from onnxact.model.view import View

CHECK_OPTIONS = ("input_shapes", "inputs", "val_range", "seeds", "provider_options", "session_options", "tf32")
"""The options of a check that say how models are run and fed."""


@dataclass(frozen=True)
class Track:
    """Where models are raced. `notes` say what a reader has to know of the inputs."""

    provider: str
    options: RuntimeOptions
    folder: Path | None
    inputs: Mapping[str, Any]
    weight_bytes: int
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: ModelProto, folder: Path | None, provider: str, wanted: Mapping[str, Any]) -> Track:
        """Return the track for the variants of a model; `wanted` are options of a check (CHECK_OPTIONS).

        Raises ProviderError where the provider does not run here, UsageError for inputs that do not fit, and
        UnloadableError where ONNX Runtime does not load the model, or does not run it on these inputs.
        """
        options = runtime_options(
            wanted.get("provider_options"), wanted.get("session_options"), tf32=bool(wanted.get("tf32"))
        )
        resolve_providers([provider], options)
        recipe = make_recipe(
            model,
            seeds=tuple(wanted.get("seeds", (0,)))[:1],
            input_shapes=wanted.get("input_shapes"),
            inputs=wanted.get("inputs"),
            val_range=wanted.get("val_range"),
        )
        subject = Subject(model, None, folder, options)
        session = _opened(subject, provider)
        feeding = find_feeds(recipe, session)
        feed = feeding.feeds[0].values
        _run(session, feed)
        return cls(provider, options, folder, feed, subject.weight_bytes, feeding.assumed)

    def runner(self, model: ModelProto, inputs: Mapping[str, Any] | None = None) -> Runner:
        """Return what runs a model once, on inputs of its own where it has others.

        Raises UnloadableError where it cannot be loaded; so does the runner where it cannot be run.
        """
        session = _opened(Subject(model, None, self.folder, self.options), self.provider)
        fed = self.inputs if inputs is None else inputs
        return lambda: _run(session, fed)

    @property
    def threads(self) -> str:
        """How many threads an op may use, in words."""
        asked = self.options.session_options.get("intra_op_num_threads")
        return f"intra_op_num_threads={asked}" if asked else "ONNX Runtime's default number of threads"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Input name -> its shape, of those that are arrays."""
        return {name: tuple(value.shape) for name, value in self.inputs.items() if hasattr(value, "shape")}

    def sized(self, model: ModelProto) -> View:
        """Return a model, without weights, that declares every value with the shape that it has for these inputs."""
        return View(_inferred(model, self.shapes))


def _opened(subject: Subject, provider: str) -> Session:
    session = open_session(subject, provider, optimise=True)
    if isinstance(session, RunFailure):
        raise UnloadableError(f"ONNX Runtime ({provider}) cannot load the model, so that it has no speed: {session}")
    return session


def _run(session: Session, inputs: Mapping[str, Any]) -> None:
    result = run_session(session, inputs)
    if isinstance(result, RunFailure):
        raise UnloadableError(f"the model cannot be timed: it {result}; give --input-shapes or --load-inputs")


def _inferred(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> ModelProto:
    """Infer all shapes from those of the inputs alone; what inference refuses stays as it was."""
    copy = without_weights(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        if value.name in shapes and value.type.HasField("tensor_type"):
            del value.type.tensor_type.shape.dim[:]
            for size in shapes[value.name]:
                value.type.tensor_type.shape.dim.add(dim_value=size)
    try:
        return shape_inference.infer_shapes(copy, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        return copy
