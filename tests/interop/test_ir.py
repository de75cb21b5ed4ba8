from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from onnxact.errors import ModelError
from onnxact.interop import open_source
from onnxact.model.view import View
from tests.interop.examples import VERBS, assert_computes_the_same, corpus, models, parse, rewrite

MODELS = models()


def as_bytes(model: Any) -> bytes:
    proto = model if isinstance(model, ModelProto) else ir.to_proto(model)
    return bytes(proto.SerializeToString(deterministic=True))


def through_ir(proto: ModelProto) -> ModelProto:
    return ir.to_proto(ir.from_proto(proto))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", MODELS)
def test_ir_model_and_model_proto_become_the_same(name: str, verb: str) -> None:
    model = ir.from_proto(MODELS[name]())
    before = as_bytes(model)
    result, proto, _ = rewrite(model, VERBS[verb])
    assert isinstance(result, ir.Model)
    assert as_bytes(result) == as_bytes(through_ir(proto))
    assert_computes_the_same(ir.to_proto(result), proto)
    assert as_bytes(model) == before


@pytest.mark.parametrize("path", corpus(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_corpus(path: Path) -> None:
    try:
        model = ir.from_proto(onnx.load(path, load_external_data=False))
        before = as_bytes(model)
    except ir.serde.SerdeError as error:
        pytest.skip(f"onnx-ir cannot read and write it: {error}")
    for verb in VERBS.values():
        result, proto, _ = rewrite(model, verb)
        assert as_bytes(result) == as_bytes(through_ir(proto))
    assert as_bytes(model) == before


def test_decomposing_and_fusing_gives_the_model_back() -> None:
    for name in MODELS:
        model = ir.from_proto(MODELS[name]())
        small, _, draft = rewrite(model, VERBS["decompose"])
        if draft.plan.edits:
            back, _, _ = rewrite(small, VERBS["fuse"])
            assert as_bytes(back) == as_bytes(model), name


def external(folder: Path) -> ir.Model:
    """PRelu whose slope, a decomposition's constant, lies in a file, and so does a Constant node's value."""
    proto = parse("""
        g (float[N, 4] x) => (float[N, 4] y) <float[4] slope> {
            more = Constant <value = float[4] {0.0, 0.0, 0.0, 0.0}> () a = PRelu(x, slope) b = Relu(a) y = Add(b, more)
        }""")
    del proto.graph.value_info[:]
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0.5, 0.25, 1.5, -1], np.float32), "slope"))
    stored = (proto.graph.initializer[0], proto.graph.node[0].attribute[0].t)
    with (folder / "weights.bin").open("wb") as file:
        for number, tensor in enumerate(stored):
            file.write(tensor.raw_data or numpy_helper.to_array(tensor).tobytes())
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", str(16 * number)), ("length", "16")):
                tensor.external_data.add(key=key, value=value)
    onnx.save(proto, folder / "net.onnx")
    return ir.load(folder / "net.onnx")


def test_external_tensors_keep_their_folder_and_are_not_read(tmp_path: Path) -> None:
    model = external(tmp_path)
    assert open_source(model).folder == tmp_path
    result, _, draft = rewrite(model, VERBS["swap_relu"])
    assert draft.plan.edits
    for each in (model, result):
        slope = each.graph.initializers["slope"].const_value
        more = each.graph[0].attributes["value"].as_tensor()
        for tensor in (slope, more):
            assert isinstance(tensor, ir.ExternalTensor)
            assert tensor._array is None
            assert (tensor.location, Path(tensor.base_dir)) == ("weights.bin", tmp_path)
        assert as_bytes(each).count(b"weights.bin") == 2
    slope = result.graph.initializers["slope"].const_value
    assert slope is not None
    assert slope.numpy().tolist() == [0.5, 0.25, 1.5, -1]


def test_values_in_files_are_read_where_a_form_needs_them(tmp_path: Path) -> None:
    _, _, draft = rewrite(external(tmp_path), VERBS["decompose_mul_abs_add"])
    assert {constant.value.shape for constant in draft.plan.constants} == {(4,)}


def test_files_that_are_elsewhere_are_not_needed(tmp_path: Path) -> None:
    model = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    assert open_source(model).folder is None
    result, _, draft = rewrite(model, VERBS["swap_relu"])
    assert draft.plan.edits
    assert as_bytes(result).count(b"weights.bin") == 2


def test_two_folders_are_no_folder(tmp_path: Path) -> None:
    model = external(tmp_path)
    tensor = model.graph[0].attributes["value"].as_tensor()
    assert isinstance(tensor, ir.ExternalTensor)
    tensor.base_dir = "elsewhere"
    assert open_source(model).folder is None
    result, _, _ = rewrite(model, VERBS["swap_relu"])
    kept = result.graph[0].attributes["value"].as_tensor()
    assert isinstance(kept, ir.ExternalTensor)
    assert kept.base_dir == "elsewhere"


def test_tensors_in_memory_are_the_models_own() -> None:
    for name in MODELS:
        model = ir.from_proto(MODELS[name]())
        result, _, _ = rewrite(model, VERBS["decompose"])
        kept = model.graph.initializers.keys() & result.graph.initializers.keys()
        for key in kept:
            assert result.graph.initializers[key].const_value is model.graph.initializers[key].const_value


def test_new_constants_are_tensors_of_the_model() -> None:
    model = ir.from_proto(MODELS["prelu_per_channel"]())
    result, _, draft = rewrite(model, VERBS["decompose_mul_abs_add"])
    assert draft.plan.constants
    for constant in draft.plan.constants:
        tensor = result.graph.initializers[constant.name].const_value
        assert tensor is not None
        assert numpy_helper.to_array(ir.to_proto(tensor)).tobytes() == constant.value.tobytes()


def test_meta_is_kept() -> None:
    model = ir.from_proto(MODELS["if_bodies"]())
    model.meta["of"] = "model"
    model.graph.meta["of"] = "graph"
    branch = model.graph[1].attributes["then_branch"].as_graph()
    for node, text in ((model.graph[0], "edited"), (model.graph[1], "kept"), (branch[0], "inner")):
        node.meta["of"] = text
        node.outputs[0].meta["of"] = text
    result, _, draft = rewrite(model, VERBS["swap_relu"])
    assert draft.plan.roots == 4
    inner = result.graph[1].attributes["then_branch"].as_graph()
    for node, text in ((result.graph[0], "edited"), (result.graph[1], "kept"), (inner[0], "inner")):
        assert node.meta["of"] == node.outputs[0].meta["of"] == text
    assert (result.meta["of"], result.graph.meta["of"]) == ("model", "graph")


def test_the_view_still_shows_the_model_afterwards() -> None:
    source = open_source(ir.from_proto(MODELS["fan_out"]()))
    view = View(source.proto, source.folder)
    before = as_bytes(source.proto)
    source.rewritten(view, VERBS["decompose"](view).plan)
    assert as_bytes(source.proto) == before


def test_an_initializer_without_value_is_refused() -> None:
    model = ir.from_proto(MODELS["prelu_per_channel"]())
    model.graph.initializers["slope"].const_value = None
    with pytest.raises(ModelError, match="initializer 'slope' has no const_value"):
        open_source(model)


def test_a_model_that_cannot_be_written_is_refused() -> None:
    model = ir.from_proto(MODELS["fan_out"]())
    model.graph[0].name = 3  # type: ignore[assignment]
    with pytest.raises(ModelError, match="onnx-ir cannot write this model as a ModelProto: TypeError: "):
        open_source(model)
