"""A runtime -> a Backend: it opens a model and runs it, or says in the runtime's own words why it does not.

backend.open(subject)  ->  Opened | RunFailure        opened.run({"x": array})  ->  {"y": array} | RunFailure
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, load_external_data_for_model, save

from onnxact.check.graph import required_inputs
from onnxact.check.session import RunFailure
from onnxact.check.subject import Subject

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], Sequence[Any] | Mapping[str, Any]]
"""Values of all inputs by name -> the outputs in the order in which they were declared, or by name."""


class Refused(Exception):  # noqa: N818 - what a runtime says of a model, not what went wrong here
    """Why a runtime does not take a model, in its own words; what a runner raises that has no exception to pass on."""


@dataclass(frozen=True)
class Interface:
    """The names of a model's inputs and outputs, in order; inputs with an initializer are none that a caller gives."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Load = Callable[[Path, Interface], Run]
"""What a runner gives: it loads the file of a model, which holds all its weights, and raises whatever it likes."""


@dataclass(frozen=True)
class Opened:
    """A model that a runtime has loaded."""

    interface: Interface
    call: Run

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array] | RunFailure:
        """Every output by name, or what the runtime said."""
        odd = [name for name, value in feeds.items() if not isinstance(value, np.ndarray)]
        if odd:
            return RunFailure("run", f"input {odd[0]} is no tensor, which is all that is handed over", of_model=False)
        found = _attempt("run", lambda: self.call(feeds))
        return found if isinstance(found, RunFailure) else _named(found, self.interface.outputs)


@dataclass(frozen=True)
class Backend:
    """A runtime other than ONNX Runtime: what a caller calls it, its version, and how it loads a model."""

    name: str
    version: str
    load: Load

    @property
    def title(self) -> str:
        """The name with the version."""
        return f"{self.name} {self.version}".strip()

    def open(self, subject: Subject) -> Opened | RunFailure:
        """Load a model."""
        interface = interface_of(subject.model)
        with TemporaryDirectory(prefix="onnxact-") as folder:
            path = _file(subject, Path(folder))
            found = _attempt("load", lambda: self.load(path, interface))
        return found if isinstance(found, RunFailure) else Opened(interface, found)


def interface_of(model: ModelProto) -> Interface:
    """The names of the inputs that have to be given, and of the outputs."""
    given = tuple(value.name for value in required_inputs(model.graph))
    return Interface(given, tuple(value.name for value in model.graph.output))


def _attempt(stage: str, work: Callable[[], Any]) -> Any:
    """What `work` gives, or what a runtime raised, in a line: an exception, or a panic of Rust, which is none."""
    try:
        return work()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return RunFailure(stage, said(error))


def said(error: BaseException) -> str:
    """An exception in one line, as Python shows it."""
    if isinstance(error, Refused):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = type(error).__name__
    return f"{name}: {' '.join(lines)[:400]}" if lines else name


def _file(subject: Subject, folder: Path) -> Path:
    """A file with all weights in it: the model's own where that is one."""
    external = any(tensor.external_data for tensor in subject.model.graph.initializer)
    if subject.path is not None and not external:
        return subject.path
    path = folder / "model.onnx"
    whole = ModelProto()
    whole.CopyFrom(subject.model)
    if external:
        load_external_data_for_model(whole, str(subject.folder or ""))
    save(whole, path)
    return path


def _named(found: Sequence[Any] | Mapping[str, Any], outputs: tuple[str, ...]) -> dict[str, Array] | RunFailure:
    values = found if isinstance(found, Mapping) else dict(zip(outputs, found, strict=False))
    missing = [name for name in outputs if name not in values]
    if missing:
        return RunFailure("run", f"it gave no output {missing[0]!r}")
    return {name: np.asarray(values[name]) for name in outputs}
