"""Run every case, as it is and as `--target` writes it: `python -m tests.runtimes.measure` writes docs/runtimes.json.

A row holds what the runtime did with the op itself, the form that its target file led to, and what the runtime made of
that: for one node over [-100, 100], and in a network that has the activation throughout.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, version_converter

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.rounding import unit_roundoff
from onnxact.check.compare import DEFAULT_RTOL
from onnxact.check.runners import Backend
from onnxact.check.session import RunFailure
from onnxact.check.subject import Subject
from onnxact.check.verdict import Verdict
from tests.runtimes.cases import CASES, SHAPE, Case
from tests.runtimes.runtimes import RUNTIMES, Runtime

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "docs" / "runtimes.json"
NETWORK = ROOT / "models" / "digits_relu.onnx"
Array = npt.NDArray[Any]
Row = dict[str, Any]


def grid() -> Array:
    """[-100, 100] in even steps."""
    return np.linspace(-100, 100, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)


def measured(case: Case, runtime: Runtime, backend: Backend) -> Row:
    """One row of the exhibit."""
    before = case.model()
    result = onnxact.decompose(before, target=runtime.target)
    row: Row = {
        "runtime": case.runtime,
        "activation": case.activation,
        "parameters": case.parameters,
        "opset": case.opset,
        "natively": outcome(case, before, backend),
        "form": forms(result),
    }
    if not result.changed:
        return {**row, "left": [skip.reason for skip in (*result.left, *result.skipped)]}
    verdict = onnxact.check(before, result.proto, backend=backend, val_range=(-100.0, 100.0))
    row["decomposed"] = {**outcome(case, result.proto, backend), **judged(verdict)}
    row["network"] = in_network(case, runtime, backend)
    return row


def outcome(case: Case, model: ModelProto, backend: Backend) -> Row:
    """What the backend says, or how far it is from the activation over [-100, 100] and where it is furthest."""
    opened = backend.open(Subject(model, None, None))
    x = grid()
    found = opened if isinstance(opened, RunFailure) else opened.run({"x": x})
    if isinstance(found, RunFailure):
        return {"said": str(found)}
    activation = ACTIVATIONS[case.activation]
    values = {**activation.defaults, **case.parameters}
    expected = np.asarray(activation.reference(x.astype(np.float64), **values))
    return distance(x, expected, found["y"])


def distance(x: Array, expected: Array, actual: Array) -> Row:
    """The largest error, where it is, and whether all are right: within rtol |f(x)| + 8 u max(1, |x|), as for sites."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(actual.astype(np.float64) - expected)
        room = DEFAULT_RTOL["float32"] * np.abs(expected) + 8 * unit_roundoff(x.dtype) * np.maximum(1, np.abs(x))
    apart = np.where(np.isnan(apart), np.inf, apart)
    at = np.unravel_index(int(np.argmax(apart)), apart.shape)
    numbers = {"x": x[at], "expected": expected[at], "gave": actual[at], "error": apart[at]}
    return {"right": bool((apart <= room).all()), **{name: plain(float(value)) for name, value in numbers.items()}}


def judged(verdict: Verdict) -> Row:
    """The verdict with the largest difference of any output."""
    largest = max((item.max_abs for item in verdict.outputs), default=0.0)
    return {"verdict": verdict.outcome, "reasons": list(verdict.reasons), "largest": plain(largest)}


def in_network(case: Case, runtime: Runtime, backend: Backend) -> Row:
    """The trained network of models/ with the activation in place of its ReLUs, as it is and as the target has it."""
    before = network(case)
    result = onnxact.decompose(before, target=runtime.target, partial=True)
    same = ModelProto()
    same.CopyFrom(before)
    plain_verdict = onnxact.check(before, same, backend=backend)
    verdict = onnxact.check(before, result.proto, backend=backend)
    return {"name": NETWORK.name, "sites": len(result.sites), "natively": judged(plain_verdict), **judged(verdict)}


def network(case: Case) -> ModelProto:
    """The network at the opset of the case, its input of a fixed shape, with the activation of the case."""
    model = onnx.load(NETWORK)
    value = model.graph.input[0].type.tensor_type.shape.dim[0]
    value.Clear()
    value.dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    model = at_opset(model, case.opset)
    if case.activation == "relu":
        return model
    found = onnxact.swap(model, "relu", case.activation, parameters=case.parameters).model
    assert isinstance(found, ModelProto)
    return found


def at_opset(model: ModelProto, opset: int) -> ModelProto:
    """The model at another opset. At 13 its ops mean what they mean at 18, but for Reshape's allowzero, which is 0."""
    stated = next(item for item in model.opset_import if not item.domain)
    if opset > stated.version:
        return version_converter.convert_version(model, opset)
    stated.version = opset
    for node in model.graph.node:
        if node.op_type == "Reshape":
            node.ClearField("attribute")
    onnx.checker.check_model(model)
    return model


def forms(result: onnxact.Result) -> str:
    """The forms that the sites got."""
    return ", ".join(dict.fromkeys(change.form for change in result.sites))


def plain(value: float) -> float | str:
    """A number as JSON has it."""
    return value if np.isfinite(value) else str(value)


def rows(runtime: Runtime, backend: Backend) -> Iterator[Row]:
    """Yield the rows of one runtime."""
    for case in CASES:
        if case.runtime == runtime.name:
            sys.stderr.write(f"{case}\n")
            yield measured(case, runtime, backend)


def main() -> int:
    """Measure what is installed; say what is not, and keep what was measured of it."""
    runtimes: dict[str, Any] = {}
    found: list[Row] = []
    for runtime in RUNTIMES.values():
        problem = runtime.lacking()
        if problem:
            runtimes[runtime.name] = {"lacking": problem}
            continue
        with runtime.backend() as backend:
            runtimes[runtime.name] = {"version": backend.version}
            found += rows(runtime, backend)
    lines = ",\n".join(json.dumps(row) for row in found)
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    head = json.dumps({"date": today, "runtimes": runtimes})[:-1]
    DATA.write_text(f'{head},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
