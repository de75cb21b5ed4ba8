"""What the tests of a proof share: subjects, engines on ONNX Runtime, and activations with other forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from onnxact.activation.catalog import ACTIVATIONS, Activation, Form
from onnxact.check.prove import asked
from onnxact.check.prove.device import DeviceEngine
from onnxact.check.prove.engine import HostEngine
from onnxact.check.prove.model import Subject, write

OPSET = 20


def subject(name: str, dtype: str = "float32", **parameters: Any) -> Subject:
    """Return an activation with parameters in a dtype."""
    row = ACTIVATIONS[name]
    return Subject(row, asked.parameters_held(row, parameters, dtype), dtype, OPSET)


def host(held: Subject, *names: str, length: int = 1024) -> HostEngine:
    """Return an engine in NumPy's memory for forms of the table."""
    forms = {name: held.activation.forms[name] for name in names}
    return HostEngine(write(held, forms), held, names, "cpu", length)


def device(held: Subject, *names: str, length: int = 1024) -> DeviceEngine:
    """Return the engine for devices with the CPU as the device: the same sessions and bindings."""
    forms = {name: held.activation.forms[name] for name in names}
    return DeviceEngine(write(held, forms), held, names, "cpu", length)


def with_forms(monkeypatch: pytest.MonkeyPatch, name: str, forms: Mapping[str, Form]) -> Activation:
    """Let `prove` find other forms in an activation's row."""
    row = replace(ACTIVATIONS[name], forms={**ACTIVATIONS[name].forms, **forms})
    monkeypatch.setattr(asked, "activation_named", lambda _name: row)
    return row
