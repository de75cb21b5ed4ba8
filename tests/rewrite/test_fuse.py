"""Undoing a decomposition: to the byte where the record still holds, and with the reason where it does not."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import onnxact
from tests.rewrite.texts import net

RELU6 = net("  [act] y = Clip (x, lo, hi)", "float lo = {0}, float hi = {6}")
TWO = net("  [a] h = LeakyRelu <alpha = 0.25> (x)\n  [b] y = LeakyRelu <alpha = 0.25> (h)")


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _changed_since(model: ModelProto) -> list[str]:
    return [s.reason for s in onnxact.fuse(model).skipped if s.reason.startswith("was decomposed by onnxact, but")]


def test_the_op_s_own_constants_have_to_be_there_still() -> None:
    """Another tool takes unused initializers away; the recorded op would read them."""
    model = onnxact.decompose(RELU6, form="min-relu").proto
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in ("lo", "hi")]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    assert _changed_since(model)
    onnx.checker.check_model(onnxact.fuse(model).proto, full_check=True)


def test_the_op_s_own_constants_have_to_be_what_they_were() -> None:
    model = onnxact.decompose(RELU6, form="min-relu").proto
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(1), "lo"))
    assert _changed_since(model)
    (fused,) = onnxact.fuse(model).proto.graph.node
    assert fused.input[1] != "lo"


def test_a_changed_constant_is_noticed() -> None:
    model = onnxact.decompose(TWO, form="mul-max").proto
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.full(list(tensor.dims), 0.5, np.float32), tensor.name))
    assert len(_changed_since(model)) == 2
    fused = onnxact.fuse(model).proto
    assert [node.attribute[0].f for node in fused.graph.node] == [0.5, 0.5]


@pytest.mark.parametrize(
    "text", ["", "{}", "null", "[]", '{"op": 3}', '{"activation": "leaky_relu", "form": "nonsense", "op": ""}', "\x00"]
)
def test_a_damaged_record_is_no_record(text: str) -> None:
    model = onnxact.decompose(TWO, form="mul-max").proto
    for node in model.graph.node:
        for entry in node.metadata_props:
            entry.value = text
    assert [node.op_type for node in onnxact.fuse(model).proto.graph.node] == ["LeakyRelu", "LeakyRelu"]


def test_a_record_in_the_wrong_place_changes_nothing() -> None:
    model = onnxact.decompose(TWO, form="mul-max").proto
    entry = model.graph.node[-1].metadata_props[0]
    other = net("  [act] y = Neg (x)")
    other.graph.node[0].metadata_props.add().CopyFrom(entry)
    assert onnxact.fuse(other).proto.SerializeToString() == other.SerializeToString()
    assert _changed_since(other)
    assert json.loads(entry.value)["form"] == "mul-max"


def test_sites_can_be_undone_one_by_one() -> None:
    decomposed = onnxact.decompose(TWO).proto
    half = onnxact.fuse(decomposed, include=["^a$"]).proto
    onnx.checker.check_model(half, full_check=True)
    assert [node.op_type for node in half.graph.node] == ["LeakyRelu", "Mul", "Max"]
    assert onnxact.fuse(half).proto.SerializeToString() == TWO.SerializeToString()


def test_sites_can_be_decomposed_one_by_one() -> None:
    first = onnxact.decompose(TWO, include=["^b$"]).proto
    both = onnxact.decompose(first, include=["^a$"]).proto
    assert onnxact.fuse(both).proto.SerializeToString() == TWO.SerializeToString()


def test_what_was_a_tree_before_stays_a_tree() -> None:
    model = net("  g = Sigmoid (x)\n  h = Mul (x, g)\n  [act] y = LeakyRelu <alpha = 0.25> (h)", opset=24)
    decomposed = onnxact.decompose(model, activations=["leaky_relu"]).proto
    undone = onnxact.fuse(decomposed)
    assert undone.proto.SerializeToString() == model.SerializeToString()
    assert any("was there before the model was decomposed" in skip.reason for skip in undone.skipped)
    every = onnxact.fuse(decomposed, every=True).proto
    assert [node.op_type for node in every.graph.node] == ["Swish", "LeakyRelu"]


def test_the_inside_of_a_decomposition_is_not_decomposed() -> None:
    once = onnxact.decompose(net("  [act] y = Softplus (x)"), allow_inexact=True).proto
    twice = onnxact.decompose(once, allow_inexact=True)
    assert not twice.changed
    assert all("softplus that was decomposed before; fuse it first" in skip.reason for skip in twice.skipped)
    assert twice.skipped


@pytest.mark.parametrize("copy", [_copy(TWO), _copy(RELU6)])
def test_nothing_to_fuse_is_nothing_changed(copy: ModelProto) -> None:
    result = onnxact.fuse(copy)
    assert not result.changed
    assert result.proto.SerializeToString() == copy.SerializeToString()
