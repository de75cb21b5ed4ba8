"""For every target and every activation: what is written uses only what the file allows, is the function, and fuses
back to the byte; what is not written has a reason for every form.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.forms import find_form
from onnxact.activation.numeric import holds
from onnxact.activation.rounding import enclosure
from onnxact.rewrite.target.known import find_target
from onnxact.rewrite.target.matrix import decided, row
from tests.laws import runtime
from tests.targets.examples import FILES, Example, examples
from tests.targets.walk import Walk

TARGETS = [path.stem for path in FILES]
POINTS = np.concatenate([np.linspace(-100, 100, 24), np.linspace(-4, 4, 24)]).astype(np.float32).reshape(1, 3, 4, 4)


@cache
def all_examples() -> tuple[Example, ...]:
    """Return the examples whose node ONNX has at their opset."""
    return tuple(one for one in examples() if _is_valid(one.model))


def _is_valid(model: ModelProto) -> bool:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return True


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_written_uses_only_what_the_file_allows(path: Path) -> None:
    for one in all_examples():
        result = onnxact.decompose(one.model, target=path.stem, allow_inexact=True, partial=True)
        if result.changed:
            found = list(Walk(result.proto, path).violations(list(result.proto.graph.node)))
            assert not found, (one.activation, one.values, one.opset, found)
            assert list(Walk(one.model, path).violations(list(one.model.graph.node))), (one, "ran as it stood")


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_left_as_it_stands_is_allowed_or_has_a_reason(name: str) -> None:
    path = next(path for path in FILES if path.stem == name)
    for one in all_examples():
        result = onnxact.decompose(one.model, target=name, allow_inexact=True, partial=True)
        if result.changed:
            continue
        against = list(Walk(one.model, path).violations(list(one.model.graph.node)))
        assert bool(result.skipped) == bool(against), (one.activation, one.values, one.opset, against, result.skipped)
        assert all(skip.reason.startswith(f"{name}: ") for skip in result.skipped)


@pytest.mark.parametrize("name", TARGETS)
def test_it_is_valid_and_the_function_and_fuses_back(name: str) -> None:
    for one in all_examples():
        result = onnxact.decompose(one.model, target=name, allow_inexact=True, partial=True)
        if not result.changed:
            continue
        onnx.checker.check_model(result.proto, full_check=True)
        assert not onnxact.decompose(result.proto, target=name, allow_inexact=True, partial=True).changed
        fused = onnxact.fuse(result.proto).proto
        assert fused.SerializeToString(deterministic=True) == one.model.SerializeToString(deterministic=True), one
        _assert_same_function(one, result)


def _assert_same_function(one: Example, result: onnxact.Result) -> None:
    """Within the bound of the form that was written, or for one that comes near the function within its error."""
    row_ = ACTIVATIONS[one.activation]
    computed = runtime.outputs(result.proto, {"x": POINTS})
    if computed is None or one.activation == "noisy_relu":
        return
    values = {name: np.asarray(value, np.float64) for name, value in one.values.items()}
    expected = row_.reference(POINTS.astype(np.float64), **values)
    change = result.sites[0]
    form = result._draft.afters[0].expr
    found = enclosure(form, POINTS.astype(np.float64), one.values, np.float32)
    scale = np.maximum(np.abs(POINTS), 1)
    error = find_form(row_, change.form).error
    low, high = found.low - error - 1e-6 * scale, found.high + error + 1e-6 * scale
    assert np.all((low <= computed[0]) & (computed[0] <= high)), (one.activation, change.form)
    assert np.all(np.abs(computed[0] - expected) <= error + 3e-6 * scale), (one.activation, one.values, change.form)


@pytest.mark.parametrize("name", TARGETS)
def test_every_activation_has_a_form_or_a_reason(name: str) -> None:
    decisions = row(find_target(name))
    assert [one.site.activation for one in decisions] == list(ACTIVATIONS)
    for one in decisions:
        forms = set(ACTIVATIONS[one.site.activation].forms) - {"op"}
        named = {form.partition("[")[0] for form, _ in one.reasons}
        if one.status in ("native", "unknown"):
            assert one.after is None
        elif one.after is None:
            assert named >= forms, (one.site.activation, forms - named)
            assert one.reason
            assert one.why
        else:
            assert named | {one.after.form.partition("[")[0]} >= forms
        assert all(reason for _, reason in one.reasons)


@pytest.mark.parametrize("name", TARGETS)
def test_without_allow_inexact_nothing_is_lost(name: str) -> None:
    """What is exact as an op is exact as a form, and no form is another function."""
    for activation, row_ in ACTIVATIONS.items():
        one = decided(find_target(name), activation, allow_inexact=False)
        if one.after is not None:
            op = row_.forms.get("op")
            values: dict[str, Any] = {**row_.defaults, **dict(one.site.parameters)}
            numbers = {key: getattr(value, "value", value) for key, value in values.items()}
            form = find_form(row_, one.after.form)
            assert form.error == 0
            assert holds(form.exact, numbers) or op is None or not holds(op.exact, numbers)
