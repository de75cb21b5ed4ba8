"""(model, inputs, provider, optimisation) -> outputs, or the reason why it did not run."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import EncodeError
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from onnxact.check.loaded import addition, folder_of, source_of
from onnxact.check.loading import UnloadableError, with_node
from onnxact.check.placement import (
    Counts,
    NodeNames,
    Placement,
    Whereabouts,
    assigned,
    profiled,
    with_unique_names,
)
from onnxact.check.providers import PROVIDERS, create, first_line, runtime, runtime_errors, runtime_version
from onnxact.check.subject import Source, Subject, open_subject
from onnxact.errors import ProviderError

Array = npt.NDArray[Any]
Outputs = dict[str, Any]

# What ONNX Runtime 1.20 to 1.31 says of a model with an op that it does not know, or that is no valid one; and what it
# and its CUDA provider say where memory runs out.
_INVALID = re.compile(
    r"is not a registered function/op|No Op registered for|[Ii]nvalid model|INVALID_PROTOBUF|"
    r"Type Error: |ShapeInferenceError"
)
SHARING = frozenset({"cpu", "cuda"})
"""Providers that take weights from a file beside a model in memory; others may hand the graph to a compiler that looks
for the file where the model is."""
_MEMORY = re.compile(
    r"Failed to allocate memory|bad_alloc|bad allocation|out of memory|smaller than requested bytes|Unable to allocate"
)


@dataclass(frozen=True)
class RunFailure:
    """A model that was not loaded (`stage` "load") or not run (`stage` "run"), with ONNX Runtime's first line.

    `of_model`: whether that can be the model's fault, and not the provider's. `is_invalid`: whether it is no model that
    ONNX Runtime knows: an op that is not registered, or a graph that is not valid; not one without a kernel.
    """

    stage: str
    message: str
    of_model: bool = True
    is_invalid: bool = False

    @property
    def for_memory(self) -> bool:
        """Whether memory ran out, which says nothing about the model."""
        return _MEMORY.search(self.message) is not None

    @property
    def is_of_model(self) -> bool:
        """Whether it says something about the model."""
        return self.of_model and not self.for_memory

    def __str__(self) -> str:
        lacking = "for lack of memory: " if self.for_memory else ""
        return f"does not {self.stage}: {lacking}{self.message}"


@dataclass(frozen=True)
class Session:
    """A loaded model on one provider.

    `names` are those that nodes were given so that they can be told apart, None where they have their own.
    """

    handle: Any
    provider: str
    optimise: bool
    subject: Subject
    names: NodeNames | None = None

    @cached_property
    def assigned(self) -> Placement | None:
        """Which provider got which node; None where this ONNX Runtime does not tell."""
        groups = assigned(self.handle)
        return None if groups is None else Placement.of(groups)

    @cached_property
    def placement(self) -> Counts | None:
        """How many nodes each provider was given, None where that is not known."""
        groups = assigned(self.handle)
        return None if groups is None else tuple(sorted((name, len(nodes)) for name, nodes in groups.items()))

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs, in order."""
        return tuple(item.name for item in self.handle.get_outputs())

    @cached_property
    def bfloat16(self) -> frozenset[str]:
        """The outputs of type bfloat16; all of them where an input is."""
        if any("bfloat16" in item.type for item in self.handle.get_inputs()):
            return frozenset(self.outputs)
        return frozenset(item.name for item in self.handle.get_outputs() if "bfloat16" in item.type)

    def shapes(self) -> dict[str, tuple[int | str | None, ...]]:
        """Output name -> its shape as ONNX Runtime inferred it: a size, a symbol, or None for unknown."""
        return {item.name: tuple(item.shape) for item in self.handle.get_outputs()}


def open_session(
    subject: Subject,
    provider: str,
    *,
    optimise: bool | str,
    extra_outputs: Sequence[str] = (),
    extra_nodes: Sequence[NodeProto] = (),
    extra_inputs: Sequence[ValueInfoProto] = (),
    threads: int = 0,
    name_nodes: bool = False,
    optimised_path: Path | None = None,
    disabled: Sequence[str] = (),
) -> Session | RunFailure:
    """Load `subject` with its own options, and the main-graph values in `extra_outputs` as further outputs.

    `extra_nodes` are added behind the others, so that there may be outputs of theirs. `extra_inputs` are initializers
    that can be given otherwise than they are stored.
    `optimise` is off, on, or one of providers.LEVELS. `threads` 0 leaves their number to ONNX Runtime; 1 starts none,
    which is quicker for a few nodes. `name_nodes` gives every node a name of its own, by which `assigned` lists it.
    `optimised_path` is where ONNX Runtime writes the model as it optimised it, `disabled` the optimisations left out.

    Raises ProviderError where the session does not get the provider, or gets it and gives it no node.
    """
    is_extended = bool(extra_outputs or extra_nodes or extra_inputs)
    loads_file = subject.path is not None and not (is_extended or name_nodes)
    shares_weights = provider in SHARING and not loads_file and optimised_path is None
    source = subject.with_external_weights if shares_weights else subject
    source, names = _named(source) if name_nodes else (source, None)
    try:
        handle = create(
            source_of(source, addition(source, extra_outputs, extra_nodes, extra_inputs)),
            provider,
            optimise=optimise,
            folder=folder_of(source, is_extended=is_extended),
            threads=threads,
            options=subject.options,
            optimised_path=None if optimised_path is None else str(optimised_path),
            disabled=disabled,
        )
    except _load_errors() as error:
        message = first_line(error)
        is_invalid = _INVALID.search(message) is not None
        return RunFailure("load", with_node(subject.model, message), is_invalid=is_invalid)
    session = Session(handle, provider, optimise not in (False, "off"), subject, names)
    _demand_provider(session)
    return session


def whereabouts(session: Session | RunFailure, subject: Subject, inputs: Mapping[str, Any]) -> Whereabouts | None:
    """Which provider ran which node of a session with named nodes; None for one that failed.

    Before ONNX Runtime 1.24 it takes one more session, whose profile of a run is read. Raises ProviderError where the
    provider ran no node.
    """
    if isinstance(session, RunFailure):
        return None
    if session.assigned is not None and session.names is not None:
        return Whereabouts(session.assigned, session.names)
    found = _profiled(subject, session.provider, inputs)
    if found is not None:
        _demand_nodes(session.provider, found.placement.counts)
    return found


def _profiled(subject: Subject, provider: str, inputs: Mapping[str, Any]) -> Whereabouts | None:
    source, names = _named(subject)
    with TemporaryDirectory(prefix="onnxact-") as folder:
        handle = create(
            source_of(source, ModelProto()),
            provider,
            optimise=False,
            folder=folder_of(source, is_extended=False),
            options=subject.options,
            profile=str(Path(folder) / "profile"),
        )
        result = run_session(Session(handle, provider, False, subject, names), inputs)
        path = handle.end_profiling()
        return None if isinstance(result, RunFailure) else Whereabouts(profiled(path), names)


def run_session(
    session: Session, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
) -> Outputs | RunFailure:
    """Output name -> value (all declared outputs, unless `outputs` names some), in the order asked for.

    Tensors come as NumPy arrays (bfloat16 as ml_dtypes.bfloat16), sequences as lists, maps as dicts, an empty optional
    as None.
    """
    try:
        return _run(session, inputs, outputs)
    except runtime_errors() as error:
        return RunFailure("run", with_node(session.subject.model, first_line(error)))


def runs(session: Session | RunFailure, inputs: Mapping[str, Any]) -> bool:
    """Whether a session runs on these inputs; why not is not looked into."""
    if isinstance(session, RunFailure):
        return False
    try:
        _run(session, inputs, None)
    except runtime_errors():
        return False
    return True


def _run(session: Session, inputs: Mapping[str, Any], outputs: Sequence[str] | None) -> Outputs:
    wanted = list(session.outputs if outputs is None else outputs)
    names = _computed(session, wanted, inputs)
    run = _run_arrays if session.bfloat16.isdisjoint(names) else _run_ort_values
    found = dict(zip(names, run(session.handle, names, inputs), strict=True)) if names or not wanted else {}
    return {name: found[name] if name in found else inputs[name] for name in wanted}


def run(
    model: Source,
    inputs: Mapping[str, Any],
    provider: str = "cpu",
    *,
    optimise: bool = False,
    outputs: Sequence[str] | None = None,
) -> Outputs | RunFailure:
    """Load `model` and run it once; a path is loaded by ONNX Runtime itself, so its size is not limited to 2 GB."""
    session = open_session(open_subject(model), provider, optimise=optimise)
    return session if isinstance(session, RunFailure) else run_session(session, inputs, outputs)


def _computed(session: Session, names: list[str], inputs: Mapping[str, Any]) -> list[str]:
    """The names without those of inputs, which are no outputs of a session unless the model says so."""
    if inputs.keys().isdisjoint(names):
        return names
    own = set(session.outputs)
    return [name for name in names if name in own or name not in inputs]


def _load_errors() -> tuple[type[Exception], ...]:
    """EncodeError: a model in memory over 2 GB."""
    return (*runtime_errors(), EncodeError)


def _named(subject: Subject) -> tuple[Subject, NodeNames]:
    model, names = with_unique_names(subject.model)
    return replace(subject, model=model, path=None), names


def demand_valid(after: Subject, provider: str, opened: Session | RunFailure) -> None:
    """Raise UnloadableError for a model after with an unknown op or an invalid graph; one without a kernel is none."""
    if isinstance(opened, RunFailure) and opened.is_invalid:
        name = after.title or "the model after"
        raise UnloadableError(f"{runtime_version()} ({provider}) cannot load {name}: {opened.message}", is_after=True)


def _demand_provider(session: Session) -> None:
    provider = session.provider
    full, remedy = PROVIDERS[provider]
    if full not in session.handle.get_providers():
        raise ProviderError(f"provider {provider}: the session did not get {full}; {remedy}")
    if provider != "cpu" and session.placement is not None:
        _demand_nodes(provider, session.placement)


def _demand_nodes(provider: str, given: Counts) -> None:
    if provider not in dict(given):
        places = ", ".join(f"{name} {count}" for name, count in given) or "none"
        raise ProviderError(f"provider {provider} was given no node of this model (nodes by provider: {places})")


def _run_arrays(handle: Any, names: list[str], inputs: Mapping[str, Any]) -> list[Any]:
    return list(handle.run(names, dict(inputs)))


def _run_ort_values(handle: Any, names: list[str], inputs: Mapping[str, Any]) -> list[Any]:
    """The way for bfloat16, which ONNX Runtime's `run` neither takes from nor gives to NumPy (1.31)."""
    values = {name: _to_ort_value(value) for name, value in inputs.items()}
    return [_from_ort_value(value) for value in handle.run_with_ort_values(names, values)]


def _to_ort_value(value: Array) -> Any:
    factory = runtime().OrtValue
    if value.dtype.name == "bfloat16":
        bits = np.asarray(value, order="C").view(np.uint16)
        return factory.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
    return factory.ortvalue_from_numpy(value)


def _from_ort_value(value: Any) -> Any:
    if value.data_type() != "tensor(bfloat16)":
        return value.numpy()
    from ml_dtypes import bfloat16

    shape = tuple(value.shape())
    count = int(np.prod(shape))
    if count == 0:
        return np.zeros(shape, bfloat16)
    bits = np.ctypeslib.as_array((ctypes.c_uint16 * count).from_address(value.data_ptr()))
    return bits.copy().view(bfloat16).reshape(shape)
