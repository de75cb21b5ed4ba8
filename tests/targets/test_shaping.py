"""How a form is written for a target: constants, shapes, slopes, names of opsets, records; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import onnxact
from onnxact.errors import ModelError, UsageError
from tests.laws import runtime
from tests.rewrite.texts import net

HEAD = 'title = "t"\nversion = "1"\nsource = "s"\ndate = "d"\n'
FEW = HEAD + 'ops = ["Relu", "Mul", "Add", "Sub", "Max", "Min", "Exp"]\n'


def own(folder: Path, text: str) -> str:
    """Return the path of a target file."""
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def written(model: ModelProto, target: str, **options: Any) -> ModelProto:
    """Return the rewritten model, checked: valid, restored by fuse to the byte, done once."""
    result = onnxact.decompose(model, target=target, **options)
    assert result.changed
    assert not result.left, result.left
    onnx.checker.check_model(result.proto, full_check=True)
    fused = onnxact.fuse(result.proto).proto
    assert fused.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    assert not onnxact.decompose(result.proto, target=target, **options).changed
    return result.proto


def ops(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def constants(model: ModelProto) -> dict[str, Any]:
    """Return the values of initializers that some node reads."""
    read = {name for node in model.graph.node for name in node.input}
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in read}


LEAKY = "[act] y = LeakyRelu <alpha: float = 0.25> (x)"


def test_constants_of_full_shape_where_there_is_no_broadcasting() -> None:
    after = written(net(LEAKY, shape="float[2,3,4]"), "onnx-mlir-nnpa-z16")
    assert {value.shape for value in constants(after).values()} == {(2, 3, 4)}


def test_a_full_shape_that_is_not_known_is_a_reason() -> None:
    result = onnxact.decompose(net(LEAKY, shape="float[N,3,4]"), target="onnx-mlir-nnpa-z16")
    assert not result.changed
    assert "cannot be written as full for x of shape [N, 3, 4]; fix its dimensions with" in result.left[0].reason


def test_an_unknown_rank_is_a_reason_with_a_way_out() -> None:
    model = net("[act] y = Exp (x)\n  z = Elu (y)", shape="float[2,3,4]")
    del model.graph.node[0]
    model.graph.node[0].input[0] = "x"
    model.graph.node[0].output[0] = "y"
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.ClearField("shape")
    result = onnxact.decompose(model, target="onnx-mlir-nnpa-z16")
    assert "is not known; declare it, or run onnx.shape_inference" in result.left[0].reason


def test_constants_of_an_old_model_are_a_reason_with_a_way_out() -> None:
    model = net(LEAKY)
    model.ir_version = 3
    result = onnxact.decompose(model, target="ort-web-webgpu", partial=True)
    assert not result.changed
    swish = net("[act] y = Selu (x)")
    swish.ir_version = 3
    refused = onnxact.decompose(swish, target="ort-web-webgpu")
    assert "there is no Constant; the model has IR version 3" in refused.left[0].reason


@pytest.mark.parametrize(("shape", "dimensions"), [("scalar", ()), ("one", (1,))])
def test_constants_of_rank_0_or_1(shape: str, dimensions: tuple[int, ...], tmp_path: Path) -> None:
    after = written(net(LEAKY), own(tmp_path, FEW + f'[constants]\nshape = "{shape}"\n'))
    assert {value.shape for value in constants(after).values()} == {dimensions}


def test_a_constant_for_each_use(tmp_path: Path) -> None:
    body = "[a] h = Elu (x)\n  [b] y = Elu (h)"
    shared = written(net(body), own(tmp_path, FEW))
    assert len(constants(shared)) == 2
    apart = written(net(body), own(tmp_path, FEW + "[constants]\nshared = false\n"))
    reads = [name for node in apart.graph.node for name in node.input if name in constants(apart)]
    assert len(reads) == len(set(reads)) == 6


def test_a_constant_that_is_read_twice_is_written_twice() -> None:
    """hls4ml ends in AttributeError where two nodes read one initializer."""
    model = net("[a] h = Max (x, zero)\n  [b] y = Max (h, zero)", "float[1] zero = {0}")
    after = written(model, "hls4ml")
    assert ops(after) == ["Relu", "Relu"]


def test_constant_nodes_where_they_are_wanted(tmp_path: Path) -> None:
    target = own(tmp_path, FEW.replace('"Exp"', '"Exp", "Constant"') + '[constants]\nas = "node"\n')
    after = written(net(LEAKY), target)
    assert ops(after) == ["Constant", "Mul", "Max"]
    assert not after.graph.initializer


def test_a_function_takes_constants_as_nodes_only(tmp_path: Path) -> None:
    function = """<ir_version: 10, opset_import: ["" : 18, "f" : 1]>
net (float[2,3] x) => (float[2,3] y) { y = f.act (x) }
<domain: "f", opset_import: ["" : 18]> act (x) => (y) { [act] y = LeakyRelu <alpha: float = 0.25> (x) }"""
    model = onnx.parser.parse_model(function)
    refused = onnxact.decompose(model, target=own(tmp_path, FEW))
    assert (
        "its constants would be Constant nodes, and there is no Constant; inline the function first"
        in refused.left[0].reason
    )
    taken = onnxact.decompose(model, target=own(tmp_path, FEW.replace('"Exp"', '"Exp", "Constant"')))
    assert [node.op_type for node in taken.proto.functions[0].node] == ["Constant", "Mul", "Max"]


def test_new_values_are_declared_where_the_target_reads_that() -> None:
    model = net("h = Add (x, x)\n  [act] k = HardSwish (h)\n  y = Add (k, x)")
    del model.graph.value_info[:]
    after = written(model, "wonnx")
    declared = {value.name for value in after.graph.value_info}
    assert {node.output[0] for node in after.graph.node if node.name} - {"k"} <= declared


def test_constants_that_have_to_be_nodes_are_declared_too() -> None:
    """Before IR version 4 an initializer would have to be an input."""
    model = net("[act] y = Selu (x)")
    model.ir_version = 3
    del model.graph.value_info[:]
    after = written(model, "wonnx")
    declared = {value.name: value.type.tensor_type for value in after.graph.value_info}
    constants = [node.output[0] for node in after.graph.node if node.op_type == "Constant"]
    assert constants
    assert all(declared[name].elem_type == onnx.TensorProto.FLOAT for name in constants)


def test_a_shape_that_would_have_to_be_declared_and_is_not_known() -> None:
    model = net("h = Reshape (x, s)\n  [act] y = HardSwish (h)", more="int64[r] s")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    result = onnxact.decompose(model, target="wonnx")
    assert "every new value has to be declared, and the shape of 'y' is not known" in result.left[0].reason


SLOPES = "float[3,1] slope = {0.25, 0.5, 0.125}"


@pytest.mark.parametrize(
    ("target", "weights", "shape"),
    [("axera-ax650", SLOPES, (1, 3, 1)), ("candle-onnx", "float[1,3,1] slope = {0.25, 0.5, 0.125}", None),
     ("ort-web-webnn-cpu-old", SLOPES, (3, 4))],
)  # fmt: skip
def test_slopes_are_laid_out_as_the_target_takes_them(target: str, weights: str, shape: tuple[int, ...] | None) -> None:
    model = net("[act] y = PRelu (x, slope)", weights)
    if shape is None:
        assert not onnxact.decompose(model, target=target).skipped
        return
    after = written(model, target)
    assert ops(after) == ["PRelu"]
    assert constants(after)[after.graph.node[0].input[1]].shape == shape
    _assert_same_bits(model, after)


def test_one_slope_becomes_a_leaky_relu() -> None:
    after = written(net("[act] y = PRelu (x, slope)", "float[1] slope = {0.25}"), "candle-onnx")
    assert ops(after) == ["LeakyRelu"]


def test_leaky_relu_becomes_a_prelu() -> None:
    model = net(LEAKY)
    after = written(model, "ort-nnapi")
    assert ops(after) == ["PRelu"]
    _assert_same_bits(model, after)


def test_a_slope_that_is_computed_is_no_constant() -> None:
    model = net("[act] y = PRelu (x, s)", more="float[3,1] s")
    found = onnxact.inspect(model, target="ort-coreml-neuralnetwork").decisions[0]
    assert found.why == "PRelu's slope must be a constant"
    assert onnxact.decompose(model, target="ort-coreml-neuralnetwork").sites[0].form == "relu-neg[neg=mul]"


def test_a_fixed_slope_is_used_exactly_or_taken_over() -> None:
    model = net(LEAKY)
    refused = onnxact.decompose(model, target="vitis-ai-dpu")
    assert not refused.changed
    assert "rounds where the op does not; give --allow-inexact" in refused.left[0].reason
    assert "--param alpha=0.1015625" in refused.left[0].reason
    result = onnxact.decompose(model, target="vitis-ai-dpu", allow_inexact=True)
    assert "was not established" in result.sites[0].warning
    assert ops(result.proto) == ["LeakyRelu", "Mul", "Mul", "Add"]
    snapped = onnxact.swap(model, "leaky-relu", "leaky-relu", parameters={"alpha": 26 / 256})
    drift = snapped.drift().outputs[0]
    assert drift.max_abs > 0.01
    assert not onnxact.decompose(snapped.proto, target="vitis-ai-dpu").skipped


def test_another_fixed_slope_gets_the_form_of_its_number(tmp_path: Path) -> None:
    target = own(
        tmp_path, HEAD + 'ops = ["LeakyRelu", "Mul", "Add"]\n[restricted.LeakyRelu]\nwhen = "alpha == 0.125"\n'
    )
    after = written(net(LEAKY), target, allow_inexact=True)
    assert after.graph.node[0].attribute[0].f == 0.125
    result = onnxact.decompose(net(LEAKY), target=target, allow_inexact=True)
    assert result.sites[0].form == "fixed-slope[slope=0.125]"


def test_attributes_are_written_out_where_a_missing_one_is_read_wrongly() -> None:
    """hls4ml reads a missing alpha as 0.01."""
    model = net("[act] y = Elu (x)")
    after = written(model, "hls4ml")
    assert ops(after) == ["Elu"]
    assert after.graph.node[0].attribute[0].f == 1.0
    assert not onnxact.decompose(net("[act] y = Elu <alpha: float = 1.0> (x)"), target="hls4ml").skipped


GELU = "  r = Div (x, root)\n  e = Erf (r)\n  g = Add (e, one)\n"
NUMBERS = "float root = {1.4142135381698608}, float one = {1}, float half = {0.5}"


def test_a_pattern_that_is_recognised_in_one_order_only() -> None:
    right = net(GELU + "  p = Mul (x, g)\n  y = Mul (p, half)", NUMBERS)
    assert onnxact.inspect(right, target="ti-tidl").decisions[0].status == "native"
    other = net(GELU + "  p = Mul (x, half)\n  [last] y = Mul (p, g)", NUMBERS)
    after = written(other, "ti-tidl")
    assert ops(after) == ["Div", "Erf", "Add", "Mul", "Mul"]
    assert onnxact.inspect(after, target="ti-tidl").decisions[0].status == "native"


def test_no_difference_of_two_computed_tensors() -> None:
    """TIDL takes no Sub of two variables: a tree that has one is written anew."""
    body = "  r = Relu (x)\n  n = Neg (x)\n  q = Relu (n)\n  m = Mul (q, a)\n  y = Sub (r, m)"
    after = written(net(body, "float[1] a = {0.25}"), "ti-tidl")
    assert ops(after) == ["LeakyRelu"]


def test_trees_are_rewritten_as_what_they_are_and_restored_to_the_byte() -> None:
    """Nodes of a tree come back at their places, with their names, between others and in two trees at once."""
    body = """[c] a = Mul (k, x)
  [other] o = Abs (x)
  [d] m = Max (a, x)
  [e] b = Mul (k, m)
  [between] p = Neg (o)
  [f] h = Max (b, m)
  y = Add (h, p)"""
    after = written(net(body, "float[1] k = {0.25}"), "ort-web-webgl")
    assert ops(after) == ["Abs", "LeakyRelu", "Neg", "LeakyRelu", "Add"]


def test_restoring_one_of_two_trees_keeps_the_model_valid() -> None:
    body = "[c] a = Mul (k, x)\n  [d] m = Max (a, x)\n  [e] b = Mul (k, m)\n  [f] y = Max (b, m)"
    model = net(body, "float[1] k = {0.25}")
    after = written(model, "ort-web-webgl")
    half = onnxact.fuse(after, include=["^f$"]).proto
    assert ops(half) == ["LeakyRelu", "Mul", "Max"]
    onnx.checker.check_model(half, full_check=True)
    _assert_same_bits(model, half)
    assert onnxact.fuse(half).proto == model


def test_inside_a_form_ops_are_computed_by_forms_in_turn() -> None:
    after = written(net("[act] y = Mish (x)", opset=18), "esp-dl")
    assert set(ops(after)) <= {"Sigmoid", "Mul", "Add", "Div", "Relu", "Exp", "Log"}


def test_what_is_wrong_natively_is_rewritten_and_said() -> None:
    swish = net("[act] y = Swish <alpha: float = 1.5> (x)", opset=24)
    found = onnxact.inspect(swish, target="tract").decisions[0]
    assert (found.status, found.why) == ("wrong", "Swish is wrong where alpha != 1: alpha is not read")
    assert ops(written(swish, "tract")) == ["Mul", "Sigmoid", "Mul"]
    assert not onnxact.decompose(net("[act] y = Swish (x)", opset=24), target="tract").changed
    tanh = onnxact.inspect(net("[act] y = Tanh (x)"), target="opencv-dnn").decisions[0]
    assert (
        tanh.why
        == "Tanh is wrong for input > 44: it gives NaN, from 44.188133 on in tensors of more than a few elements"
    )
    assert ops(written(net("[act] y = Tanh (x)"), "opencv-dnn")) == ["Mul", "Sigmoid", "Mul", "Sub"]


def test_a_layer_that_the_target_makes_of_a_tree_is_left_to_it() -> None:
    """OpenCV makes one Mish layer of x * Tanh(Softplus(x)), though its Tanh and its Softplus are wrong for large x."""
    model = net("s = Softplus (x)\n  t = Tanh (s)\n  y = Mul (x, t)")
    assert onnxact.inspect(model, target="opencv-dnn").decisions[0].status == "native"
    assert onnxact.inspect(model, target="tract").decisions[0].status == "wrong"


def test_a_model_of_an_opset_that_the_target_does_not_read(tmp_path: Path) -> None:
    target = own(tmp_path, FEW + 'opset = "9-15"\n')
    with pytest.raises(ModelError, match=r"opset 18, and mine reads 9 to 15; .*convert_version\(model, 15\)"):
        onnxact.decompose(net(LEAKY), target=target)
    assert "reads 9 to 15" in onnxact.inspect(net(LEAKY), target=target).remarks[0]
    with pytest.raises(ModelError, match=r"convert_version\(model, 9\)"):
        onnxact.decompose(net(LEAKY, opset=8), target=target)


def test_a_target_without_mul_and_add_says_so(tmp_path: Path) -> None:
    bare = own(tmp_path, HEAD + 'ops = ["Relu", "Clip"]\n')
    result = onnxact.decompose(net("[act] y = HardSwish (x)"), target=bare)
    assert "there is no Mul and no Add at all" in result.left[0].reason
    assert (
        "there is no Mul at all" in onnxact.decompose(net("[act] y = Elu (x)"), target="kneron-kdp520").left[0].reason
    )


QDQ = """h = DequantizeLinear (x, s, z)
  [act] a = HardSwish (h)
  y = QuantizeLinear (a, s, z)"""


def _quantised() -> ModelProto:
    return net(QDQ, "float s = {0.05}, uint8 z = {128}", shape="uint8[2,3]")


def test_between_quantisers_inner_values_stay_float(tmp_path: Path) -> None:
    result = onnxact.decompose(_quantised(), target="ort-coreml-mlprogram")
    assert "inner values stay float between the quantisers" in result.sites[0].note
    assert ops(result.proto) == ["DequantizeLinear", "HardSigmoid", "Mul", "QuantizeLinear"]
    strict = own(tmp_path, HEAD + 'ops = ["HardSigmoid", "Mul"]\nquantised = true\n')
    refused = onnxact.decompose(_quantised(), target=strict)
    assert "every value has to be quantised" in refused.left[0].reason


def test_a_swap_before_a_quantiser_asks_for_calibration() -> None:
    model = net("[act] a = Relu (x)\n  q = QuantizeLinear (a, s, z)\n  y = DequantizeLinear (q, s, z)",
                "float s = {0.05}, uint8 z = {128}")  # fmt: skip
    result = onnxact.swap_relu(model, alpha=0.25)
    assert "calibrate the model again" in result.sites[0].warning
    clipped = net("[act] a = Relu (x)\n  q = QuantizeLinear (a, s, z)\n  y = DequantizeLinear (q, s, z)",
                  "float s = {0.05}, uint8 z = {0}")  # fmt: skip
    assert "clips at zero" in onnxact.swap_relu(clipped, alpha=0.25).skipped[0].reason


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="a target, a form or a set of ops"):
        onnxact.decompose(net(LEAKY), target="tract", form="mul-max")
    with pytest.raises(UsageError, match="partial is for a target"):
        onnxact.decompose(net(LEAKY), partial=True)


def test_only_what_is_selected() -> None:
    body = "[a] h = HardSwish (x)\n  [b] y = HardSwish (h)"
    result = onnxact.decompose(net(body), target="wonnx", include=["^b$"])
    assert ops(result.proto)[0] == "HardSwish"
    assert len(result.sites) == 1
    assert not onnxact.decompose(net(body), target="wonnx", activations=["elu"]).changed


def test_without_provenance_nothing_is_recorded() -> None:
    result = onnxact.decompose(net("[a] y = HardSwish (x)"), target="wonnx", provenance=False)
    assert not any(node.metadata_props for node in result.proto.graph.node)
    assert not onnxact.decompose(result.proto, target="wonnx").changed


def test_a_site_that_was_decomposed_for_another_target() -> None:
    model = net("[a] y = HardSwish (x)")
    first = onnxact.decompose(model, target="ort-coreml-mlprogram").proto
    again = onnxact.decompose(first, target="wonnx")
    assert not again.changed
    assert "decomposed before; fuse it first" in again.left[0].reason


def _assert_same_bits(before: ModelProto, after: ModelProto) -> None:
    x = runtime.values(np.dtype(np.float32), 24, special=False).reshape(2, 3, 4)
    left, right = (runtime.outputs(model, {"x": x}) for model in (before, after))
    assert left is not None
    assert right is not None
    assert not runtime.unequal(left[0], right[0])
