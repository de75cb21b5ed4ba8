"""(model, inputs, provider, optimisation) -> outputs, or the reason why it did not run."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto

from onnxact.check.providers import PROVIDERS, create, first_line, placement, runtime, runtime_errors
from onnxact.check.subject import Source, Subject, open_subject
from onnxact.errors import ProviderError

Array = npt.NDArray[Any]
Outputs = dict[str, Any]


@dataclass(frozen=True)
class RunFailure:
    """A model that was not loaded (`stage` "load") or not run (`stage` "run"), with ONNX Runtime's first line."""

    stage: str
    message: str

    def __str__(self) -> str:
        return f"does not {self.stage}: {self.message}"


@dataclass(frozen=True)
class Session:
    """A loaded model on one provider; `placement` is how many nodes each provider was given, None where unknown."""

    handle: Any
    provider: str
    optimise: bool
    placement: tuple[tuple[str, int], ...] | None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs, in order."""
        return tuple(item.name for item in self.handle.get_outputs())

    def shapes(self) -> dict[str, tuple[int | str | None, ...]]:
        """Output name -> its shape as ONNX Runtime inferred it: a size, a symbol, or None for unknown."""
        return {item.name: tuple(item.shape) for item in self.handle.get_outputs()}


def open_session(
    subject: Subject,
    provider: str,
    *,
    optimise: bool,
    extra_outputs: Sequence[str] = (),
    threads: int = 0,
) -> Session | RunFailure:
    """Load `subject`, with the main-graph values named in `extra_outputs` as further outputs.

    `threads` 0 leaves their number to ONNX Runtime; 1 starts none, which is quicker for a few nodes.
    Raises ProviderError where the session does not get the provider, or gets it and gives it no node.
    """
    try:
        source = _source(subject, extra_outputs)
        folder = None if subject.folder is None or isinstance(source, str) else str(subject.folder)
        handle = create(source, provider, optimise=optimise, folder=folder, threads=threads)
    except _load_errors() as error:
        return RunFailure("load", first_line(error))
    _demand_provider(handle, provider)
    return Session(handle, provider, optimise, placement(handle) if provider != "cpu" else None)


def run_session(
    session: Session, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
) -> Outputs | RunFailure:
    """Output name -> value (all declared outputs, unless `outputs` names some), in the order asked for.

    Tensors come as NumPy arrays (bfloat16 as ml_dtypes.bfloat16), sequences as lists, maps as dicts, an empty optional
    as None.
    """
    names = list(session.outputs if outputs is None else outputs)
    run = _run_ort_values if _has_bfloat16(session, names) else _run_arrays
    try:
        return dict(zip(names, run(session.handle, names, inputs), strict=True))
    except runtime_errors() as error:
        return RunFailure("run", first_line(error))


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


def _load_errors() -> tuple[type[Exception], ...]:
    """EncodeError: a model in memory over 2 GB."""
    return (*runtime_errors(), EncodeError)


def _source(subject: Subject, extra_outputs: Sequence[str]) -> str | bytes:
    """What ONNX Runtime is to load.

    Extra outputs are appended as bytes: protobuf merges a repeated `graph` field, so that no copy of the model is made
    (protobuf.dev/programming-guides/encoding, "Last One Wins"). ONNX Runtime infers the type of an output with only a
    name.
    """
    if subject.path is not None and not extra_outputs:
        return str(subject.path)
    data = subject.model.SerializeToString() if subject.path is None else subject.path.read_bytes()
    declared = {value.name for value in subject.model.graph.output}
    addition = ModelProto()
    for name in dict.fromkeys(extra_outputs):
        if name not in declared:
            addition.graph.output.add().name = name
    return bytes(data + addition.SerializeToString()) if addition.HasField("graph") else bytes(data)


def _demand_provider(handle: Any, provider: str) -> None:
    full = PROVIDERS[provider][0]
    if full not in handle.get_providers():
        raise ProviderError(f"provider {provider}: the session did not get {full}; {PROVIDERS[provider][1]}")
    given = placement(handle) if provider != "cpu" else None
    if given is not None and provider not in dict(given):
        places = ", ".join(f"{name} {count}" for name, count in given) or "none"
        raise ProviderError(f"provider {provider} was given no node of this model (nodes by provider: {places})")


def _has_bfloat16(session: Session, outputs: Sequence[str]) -> bool:
    handle = session.handle
    wanted = [*handle.get_inputs(), *(item for item in handle.get_outputs() if item.name in outputs)]
    return any("bfloat16" in item.type for item in wanted)


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
