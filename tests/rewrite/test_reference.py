"""The independent model that a swap is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

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
    result = onnxact.swap(model, "relu", to)
    plan = reference.plan(View(model), result.sites)
    assert len(plan.edits) == 1, plan.skips
    (change,) = result.sites
    expr = ACTIVATIONS[to].forms[change.form].expr
    nodes = plan.edits[0].nodes(0)
    assert len(nodes) > 1 or nodes[0].op != getattr(expr, "op", "")
