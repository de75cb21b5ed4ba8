"""The independent model that a swap is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto
from onnx.parser import parse_model

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.model.edit import apply
from onnxact.model.view import View
from onnxact.rewrite import reference
from tests.laws import runtime
from tests.rewrite.texts import net


def _reference(model: ModelProto, result: onnxact.Result) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    view = View(copy)
    apply(view, reference.plan(view, result.sites))
    return copy


@pytest.mark.parametrize(
    ("to", "parameters"),
    [
        ("leaky_relu", {"alpha": 0.25}),
        ("leaky_relu", {"alpha": 1.5}),
        ("leaky_relu", {"alpha": -0.5}),
        ("prelu", {"slope": np.asarray([0.25, 0.5, 2.0])}),
        ("relu6", {}),
        ("clip", {"min": -1.0, "max": 2.0}),
        ("thresholded_relu", {"alpha": 0.5}),
    ],
)
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_a_swap_is_the_original_in_another_form_bit_for_bit(to: str, parameters: dict[str, Any], opset: int) -> None:
    model = net("  [one] h = Relu (x)\n  n = Neg (h)\n  [two] y = Relu (n)", opset=opset)
    result = onnxact.swap(model, "relu", to, parameters=parameters)
    other = _reference(model, result)
    swapped = [node.op_type for node in result.proto.graph.node]
    assert [node.op_type for node in other.graph.node] != swapped
    for seed in range(4):
        x = runtime.values(np.float32, 24, special=False, seed=seed).reshape(2, 3, 4)
        left, right = runtime.outputs(result.proto, {"x": x}), runtime.outputs(other, {"x": x})
        assert left is not None and right is not None
        assert not runtime.unequal(left[0], right[0])


@pytest.mark.parametrize("to", [name for name in ACTIVATIONS if name not in ("relu", "noisy_relu")])
def test_there_is_a_second_form_of_every_activation(to: str) -> None:
    model = net("  [act] y = Relu (x)", opset=24)
    result = onnxact.swap(model, "relu", to, parameters={"max": 2.0} if to == "clip" else {})
    plan = reference.plan(View(model), result.sites)
    assert len(plan.edits) == 1, plan.skips
    (change,) = result.sites
    expr = ACTIVATIONS[to].forms[change.form].expr
    nodes = plan.edits[0].nodes(0)
    assert len(nodes) > 1 or nodes[0].op != getattr(expr, "op", "")


def _typed(dtype: str, opset: int) -> ModelProto:
    graph = f"g ({dtype}[2, 3] x) => ({dtype}[2, 3] y) {{ [act] y = Relu (x) }}"
    return parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {graph}')


@pytest.mark.parametrize("to", ["gelu", "selu", "mish", "hard_swish", "softplus", "leaky_relu", "elu"])
def test_what_does_not_load_after_a_swap_is_different(to: str) -> None:
    """ONNX Runtime 1.31 has Relu for float64 on the CPU, and none of these."""
    verdict = onnxact.swap_relu(_typed("double", 22), to=to).check(providers=["cpu"])
    assert verdict.outcome == "different"
    assert verdict.reasons[0].startswith("ran before, does not load: ")


def test_a_reference_is_written_in_a_form_that_loads() -> None:
    """Celu through Elu comes first, and ONNX Runtime 1.31 has no Elu for float64 on the CPU."""
    assert onnxact.swap_relu(_typed("double", 22), to="celu").check(providers=["cpu"]).outcome == "equivalent"


def test_without_a_reference_that_loads_nothing_is_claimed() -> None:
    verdict = onnxact.swap_relu(_typed("float", 6)).check(providers=["cpu"])
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons[0].startswith("nothing to compare the result with: onnxruntime ")
    assert "loads no other form of leaky_relu (prelu: " in verdict.reasons[0]


def test_a_model_that_did_not_load_is_called_the_model_before() -> None:
    verdict = onnxact.swap_relu(_typed("bfloat16", 22)).check(providers=["cpu"])
    assert verdict.outcome == "inconclusive"
    assert "cannot load the model before: Could not find an implementation for Relu(14)" in verdict.reasons[0]


def test_an_approximation_is_no_reference() -> None:
    (change,) = onnxact.swap_relu(_typed("float", 22), to="gelu").sites
    assert not any(other.form.error for other in reference.other_forms(change))
