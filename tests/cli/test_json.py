"""--json: one report on stdout, of the shape that DESIGN.md gives, whatever the verb and however it ends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxact.cli.output import finite
from tests.cli.runner import DIGITS, invoke, model, write

Shape = Any
"""A type; a tuple of shapes of which one must fit; [shape] for a list of it; {"*": shape} for a map from any name; or
name -> shape for exactly these names, of which those that end in "?" may be missing.
"""
TEXT = (str, type(None))
NUMBER = (int, float)
PARAMS: Shape = {"*": (*NUMBER, str, {"value": str}, {"attribute": str}, {
    "value": str, "shape": [int], "min": NUMBER, "max": NUMBER})}  # fmt: skip
WRITTEN: Shape = {"activation": str, "form": str, "params": PARAMS}
PLACE: Shape = {"scope": str, "node": str, "input": str, "output": str, "dtype": TEXT}
SKIPPED: Shape = {"scope": str, "node": str, "reason": str}
COUNTS: Shape = {"*": int}
VALUE: Shape = (*NUMBER, *TEXT)
"""A number; "nan", "inf" or "-inf"; or nothing."""
PLACES: Shape = [list]
RUN: Shape = {
    "inputs": str, "provider": str, "optimise": bool, "before": str, "after": str, "placement": PLACES,
    "placement_before": PLACES, "is_backend": bool,
}  # fmt: skip
OUTPUT: Shape = {
    "name": str, "run": RUN, "outcome": str, "reason": str, "judged_by": str, "dtype": str, "shape": [int],
    "elements": int, "finite": int, "differing": int, "max_abs": VALUE, "max_rel": VALUE, "max_u": VALUE,
    "scale": VALUE, "noise": VALUE, "rtol": NUMBER, "atol": NUMBER, "worst_index": [int], "worst_before": VALUE,
    "worst_after": VALUE, "outside": int, "tolerance": str, "least_rtol": VALUE, "least_atol": VALUE,
}  # fmt: skip
MEANING: Shape = {"activation": str, "form": str, "parameters": [list], "dtype": str, "exact": bool}
PROBE: Shape = {
    "scope": str, "node": str, "input": str, "output": str, "kinks": [NUMBER], "channel_axis": (int, type(None)),
    "before": (MEANING, type(None)), "after": (MEANING, type(None)), "only_in": str, "after_input": str,
    "after_output": str,
}  # fmt: skip
ACCURACY: Shape = ({
    "elements": int, "compared": int, "outside": int, "max_u": VALUE, "max_abs": VALUE, "inputs": str, "index": [int],
    "x": VALUE, "y": VALUE, "expected": VALUE, "allowed": VALUE, "channels": [int], "declared": [str], "problem": str,
}, type(None))  # fmt: skip
SIGNS: Shape = {"negative": int, "zero": int, "positive": int, "nan": int, "infinite": int}
KINK: Shape = {
    "kink": NUMBER, "below": int, "at": int, "above": int, "channels": int, "channels_never_below": [int],
    "channels_never_above": [int],
}  # fmt: skip
SITE: Shape = {
    "site": PROBE, "reached": bool, "outcome": str, "settled": bool, "tolerated": bool, "differs": str, "unknown": str,
    "missed": str, "ruled_out": str, "alone": str,
    "surroundings": str, "counts": [KINK], "signs": SIGNS, "channels": [SIGNS], "before": ACCURACY, "after": ACCURACY,
    "alone_before": ACCURACY, "alone_after": ACCURACY, "elements": int, "nan": int, "infinite": int, "shape": [int],
    "dtype": str, "notes": [str],
}  # fmt: skip
WIDTHS: Shape = {"rtol": (*NUMBER, type(None)), "atol": (*NUMBER, type(None)), "outputs": dict}
CHECK: Shape = {
    "verdict": str, "reasons": [str], "runs": [RUN], "outputs": [OUTPUT], "sites": [SITE], "providers": [str],
    "tolerance": WIDTHS, "notes": [str], "runtime": str, "policy": str, "divergence": (dict, type(None)),
    "placements": [{"site": PROBE, "provider": str, "before": PLACES, "after": PLACES, "unclear": str}],
    "triage": [{"kind": str, "text": str, "data": dict}], "output_verdicts": {"*": str},
    "options": {"provider_options": dict, "session_options": dict, "tf32": bool},
    "least": {"*": {"rtol": VALUE, "atol": VALUE}},
}  # fmt: skip
DRIFT: Shape = {"name": str, "changed": NUMBER, "max_abs": NUMBER, "mean_abs": NUMBER, "scale": NUMBER}
REWRITE: Shape = {
    "schema": str, "verb": str, "input": str, "output": TEXT, "dry_run": bool,
    "sites": [{**PLACE, "before": WRITTEN, "after": WRITTEN, "exact?": bool, "note?": str}], "skipped": [SKIPPED],
    "op_counts": {"before": COUNTS, "after": COUNTS}, "check": (CHECK, type(None)), "drift?": [DRIFT],
    "left?": [SKIPPED],
}  # fmt: skip
INSPECT: Shape = {
    "schema": str, "verb": str, "input": str, "sites": [{**PLACE, **WRITTEN}], "skipped": [SKIPPED],
    "op_counts": COUNTS,
}  # fmt: skip
FORMS: Shape = {"schema": str, "verb": str, "activations": {"*": {
    "defaults": {"*": (*NUMBER, str)}, "source": str, "torch": TEXT, "op": TEXT, "opset": (int, type(None)),
    "forms": {"*": {
        "formula": str, "ops": [str], "when": TEXT, "exact": str, "special": {"*": (*NUMBER, str)}}}}}}  # fmt: skip
JUDGED: Shape = {"schema": str, "verb": str, "before": str, "after": str, "check": CHECK}


def misfits(value: Any, shape: Shape, path: str = "report") -> Iterator[str]:
    """Yield where a value has not the shape."""
    if isinstance(shape, tuple):
        if all(any(misfits(value, option)) for option in shape):
            yield f"{path} is {value!r}"
    elif isinstance(shape, list) and isinstance(value, list):
        for number, item in enumerate(value):
            yield from misfits(item, shape[0], f"{path}[{number}]")
    elif isinstance(shape, dict) and isinstance(value, dict):
        yield from _misfits_of_names(value, shape, path)
    elif not (isinstance(shape, type) and isinstance(value, shape)) or (isinstance(value, bool) and shape is not bool):
        yield f"{path} is {value!r}"


def _misfits_of_names(value: dict[str, Any], shape: dict[str, Shape], path: str) -> Iterator[str]:
    names = dict.fromkeys(value, shape["*"]) if "*" in shape else {name.rstrip("?"): shape[name] for name in shape}
    missing = {name for name in shape if name[-1] not in "?*"} - set(value)
    if missing or set(value) - set(names):
        yield f"{path}: missing {missing}, unknown {set(value) - set(names)}"
    for name in set(value) & set(names):
        yield from misfits(value[name], names[name], f"{path}.{name}")


def report(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Run with --json; NaN and Infinity are no JSON."""
    outcome = invoke(*arguments, "--json")
    found = json.loads(outcome.out, parse_constant=lambda name: pytest.fail(f"{name} in the report"))
    assert found["schema"] == "onnxact/1"
    assert found["verb"] == arguments[0]
    return outcome.code, found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "net.onnx")
    (tmp_path / "digits.onnx").write_bytes(DIGITS.read_bytes())
    return tmp_path


REWRITES = (
    ("swap-relu", "net.onnx"),
    ("swap-relu", "digits.onnx", "--to", "prelu", "--per-channel"),
    ("swap", "net.onnx", "--from", "relu", "--to", "clip", "--param", "min=-1"),
    ("decompose", "net.onnx"),
    ("decompose", "digits.onnx", "--exclude", "relu_1", "--form", "half-abs"),
    ("decompose", "net.onnx", "--ops", "Relu"),
    ("fuse", "net.onnx"),
)


@pytest.mark.parametrize("arguments", REWRITES, ids=" ".join)
def test_rewrites(folder: Path, arguments: tuple[str, ...]) -> None:
    code, found = report(*arguments)
    assert list(misfits(found, REWRITE)) == []
    assert (found["output"] is None) == (code == 4 and not found["sites"])
    assert (found["check"] is not None) == bool(found["sites"])
    assert ("drift" in found) == (bool(found["sites"]) and arguments[0].startswith("swap"))


def test_a_dry_run_names_no_output(folder: Path) -> None:
    code, found = report("swap-relu", "net.onnx", "--dry-run")
    assert list(misfits(found, REWRITE)) == []
    assert (code, found["output"], found["dry_run"], len(found["sites"])) == (0, None, True, 1)


def test_skips_have_reasons(folder: Path) -> None:
    code, found = report("decompose", "net.onnx", "--ops", "Abs")
    assert (code, found["sites"]) == (4, [])
    assert list(misfits(found, REWRITE)) == []
    assert [skip["node"] for skip in found["skipped"]] == ["act"]


def test_inspect_and_forms(folder: Path) -> None:
    write(folder / "clip.onnx", model(op="Clip"))
    for name in ("digits.onnx", "clip.onnx"):
        code, found = report("inspect", name)
        assert (code, list(misfits(found, INSPECT))) == (0, [])
    for arguments in ((), ("clip",), ("noisy-relu",)):
        code, found = report("forms", *arguments)
        assert (code, list(misfits(found, FORMS))) == (0, [])


def test_check(folder: Path) -> None:
    write(folder / "other.onnx", model(op="LeakyRelu", alpha=0.5))
    (folder / "same.onnx").write_bytes((folder / "net.onnx").read_bytes())
    for name, expected in {"other.onnx": (1, "different"), "same.onnx": (0, "equivalent")}.items():
        code, found = report("check", "net.onnx", name)
        assert list(misfits(found, JUDGED)) == []
        assert (code, found["check"]["verdict"]) == expected


def test_an_error_is_a_report_too(folder: Path) -> None:
    code, found = report("inspect", "missing.onnx")
    assert (code, found["error"]["type"], found["error"]["exit_code"]) == (5, "ModelError", 5)


def test_finite() -> None:
    value = {"a": math.nan, "b": [np.float32(0.5), -math.inf], "c": np.int64(3), 1: (np.bool_(True), Path("x"), None)}
    assert finite(value) == {"a": "nan", "b": [0.5, "-inf"], "c": 3, "1": [True, "x", None]}
