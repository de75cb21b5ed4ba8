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
from onnx import ModelProto

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.rounding import unit_roundoff
from onnxact.check.compare import DEFAULT_RTOL
from onnxact.check.runners import Backend
from onnxact.check.session import RunFailure
from onnxact.check.subject import Subject
from onnxact.check.verdict import Verdict
from tests.runtimes.cases import CASES, SHAPE, Case
from tests.runtimes.networks import Network, networks
from tests.runtimes.runtimes import RUNTIMES, Runtime

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "docs" / "runtimes.json"
Array = npt.NDArray[Any]
Row = dict[str, Any]
RANGE = (-100.0, 100.0)
"""Of what enters a model."""


def grid() -> Array:
    """[-100, 100] in even steps."""
    return np.linspace(-100, 100, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)


def measured(case: Case, runtime: Runtime, backend: Backend) -> Row:
    """One row of the exhibit."""
    before = case.model()
    result = decomposed(before, runtime)
    row: Row = {
        "runtime": case.runtime,
        "activation": case.activation,
        "parameters": case.parameters,
        "opset": case.opset,
        "natively": outcome(case, before, backend),
        "form": forms(result),
        "inexact": bool(onnxact.decompose(before, target=runtime.target).left),
    }
    verdict = onnxact.check(before, result.proto, backend=backend, val_range=RANGE)
    row["decomposed"] = {**outcome(case, result.proto, backend), **judged(verdict)}
    row["network"] = in_network(case, runtime, backend)
    return row


def decomposed(model: ModelProto, runtime: Runtime) -> onnxact.Result:
    """The model as the target has it; with a form that only comes near the activation where there is no other."""
    result = onnxact.decompose(model, target=runtime.target)
    return onnxact.decompose(model, target=runtime.target, allow_inexact=True) if result.left else result


def in_network(case: Case, runtime: Runtime, backend: Backend) -> Row:
    """A network with the activation of the case, as it is and as the target has it.

    It is the first one that the backend computes with its own ReLUs, written as the target has them, at this opset;
    where it computes none, what it says of them.
    """
    lacking: dict[str, list[str]] = {}
    for network in networks():
        control = on_backend(network.at(case.opset), runtime, backend)[1]
        if control.equivalent:
            return row_of(network, on_backend(network.with_activation(case), runtime, backend))
        lacking[network.name] = list(control.reasons)
    return {"lacking": lacking}


def on_backend(before: ModelProto, runtime: Runtime, backend: Backend) -> tuple[Verdict, Verdict, int]:
    """The verdict on a network as it is, on the network as the target has it, and how many sites were rewritten."""
    result = decomposed(before, runtime)
    found = [onnxact.check(before, after, backend=backend, val_range=RANGE) for after in (before, result.proto)]
    return found[0], found[1], len(result.sites)


def row_of(network: Network, found: tuple[Verdict, Verdict, int]) -> Row:
    """What was found of a network, as plain data."""
    native, verdict, sites = found
    return {"name": network.name, "sites": sites, "natively": judged(native), **judged(verdict)}


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
