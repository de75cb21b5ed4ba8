"""Where forms are computed: an execution provider of ONNX Runtime, or NumPy op by op.

"cpu" -> Runtime("cpu");  "cuda" -> Runtime("cuda"), on the device;  "numpy" -> Arithmetic()
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from onnx import TensorProto, helper

from onnxact.activation.catalog import Form
from onnxact.check.prove.device import DEVICE_CALL, DEVICES, EXAMINED_CALL, DeviceEngine
from onnxact.check.prove.engine import CALL, Engine, HostEngine, NumpyEngine
from onnxact.check.prove.model import Subject, write
from onnxact.check.providers import PROVIDERS, create, first_line, resolve_providers, runtime, runtime_errors
from onnxact.errors import ProviderError
from onnxact.model.schema import LATEST_OPSET

NUMPY = "numpy"


class Place(Protocol):
    """What computes forms."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    def newest_opset(self) -> int:
        """Return the newest opset whose models it takes."""

    def problem(self, subject: Subject, name: str, form: Form) -> str:
        """Return why a form does not run there; empty where it does."""

    def engine(self, subject: Subject, forms: Mapping[str, Form], *, compares: bool) -> Engine:
        """Return an engine for these forms; `compares`: most calls only ask whether two outputs are the same."""

    def short_engine(self, subject: Subject, forms: Mapping[str, Form]) -> Engine | None:
        """Return an engine for calls of one value, where its kernels treat the end of a tensor in another way."""


class Runtime:
    """An execution provider of ONNX Runtime that a session really gets."""

    def __init__(self, provider: str) -> None:
        self.name = provider

    def newest_opset(self) -> int:
        """Return the newest opset that a session takes: newer ones are "under development" for ONNX Runtime."""
        return _newest_opset()

    def problem(self, subject: Subject, name: str, form: Form) -> str:
        """Return why ONNX Runtime does not load the form, or where it puts nodes instead."""
        model = write(subject, {name: form})
        try:
            session = create(model.SerializeToString(), self.name, optimise=False, threads=1)
        except runtime_errors() as error:
            return _why(first_line(error), subject, self.name)
        return _elsewhere(session, self.name)

    def engine(self, subject: Subject, forms: Mapping[str, Form], *, compares: bool) -> Engine:
        """Return an engine whose session has every form as an output."""
        model = write(subject, forms)
        if self.name in DEVICES:
            return DeviceEngine(model, subject, list(forms), self.name, DEVICE_CALL if compares else EXAMINED_CALL)
        return HostEngine(model, subject, list(forms), self.name, CALL)

    def short_engine(self, subject: Subject, forms: Mapping[str, Form]) -> Engine | None:
        """Return an engine for calls of one value, on the CPU."""
        return HostEngine(write(subject, forms), subject, list(forms), self.name, 1) if self.name == "cpu" else None


class Arithmetic:
    """NumPy, op by op in the dtype: correctly rounded arithmetic, NumPy's own Exp, Log and Tanh."""

    name = NUMPY

    def newest_opset(self) -> int:
        """Return ONNX's own."""
        return LATEST_OPSET

    def problem(self, subject: Subject, name: str, form: Form) -> str:
        """Return nothing: every form can be evaluated."""
        return ""

    def engine(self, subject: Subject, forms: Mapping[str, Form], *, compares: bool) -> Engine:
        """Return an engine that evaluates every form."""
        return NumpyEngine(subject, forms, CALL)

    def short_engine(self, subject: Subject, forms: Mapping[str, Form]) -> Engine | None:
        """Return nothing: NumPy's results are the same at every place."""
        return None


def place_named(name: str) -> Place:
    """Return the place; ProviderError for a provider that no session gets, UsageError for an unknown name."""
    if name.strip().lower() == NUMPY:
        return Arithmetic()
    return Runtime(resolve_providers([name]).names[0])


def _why(message: str, subject: Subject, provider: str) -> str:
    """Return ONNX Runtime's reason for not loading a model in our words, where it is a missing kernel."""
    missing = re.search(r"Could not find an implementation for (\w+)\((\d+)\)", message)
    if missing is None:
        return f"ONNX Runtime does not load it on {provider}: {message}"
    return f"no {subject.dtype} kernel of {missing[1]}-{missing[2]} on {provider}"


def _elsewhere(session: Any, provider: str) -> str:
    """Return which nodes another provider was given; ONNX Runtime tells from 1.24 on."""
    if provider == "cpu" or not hasattr(session, "get_provider_graph_assignment_info"):
        return ""
    full = PROVIDERS[provider][0]
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != full]
    ops = sorted({node.op_type for part in parts for node in part.get_nodes()})
    return f"ONNX Runtime runs {', '.join(ops)} on {parts[0].ep_name} instead of {provider}" if ops else ""


@cache
def _newest_opset() -> int:
    for opset in range(LATEST_OPSET, 6, -1):
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", value[:1], value[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        try:
            create(model.SerializeToString(), "cpu", optimise=False, threads=1)
        except runtime_errors():
            continue
        return opset
    raise ProviderError(f"ONNX Runtime {runtime().__version__} takes no opset from 7 to {LATEST_OPSET}")
