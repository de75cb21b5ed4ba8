"""What ONNX Runtime's optimiser fused is taken apart for --target onnx, computes the same, and is fused again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxact
from tests.laws import runtime
from tests.rewrite.texts import net

RANDOM = np.random.default_rng(5)
CONV = ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid"]
GEMM = ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "Softplus", "Softsign", "ThresholdedRelu", "HardSigmoid"]
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "LeakyRelu": {"alpha": 0.25},
    "HardSigmoid": {"alpha": 0.25, "beta": 0.375},
    "Elu": {"alpha": 0.5},
    "ThresholdedRelu": {"alpha": 0.5},
}


def weights(*shape: int) -> TensorProto:
    return numpy_helper.from_array(RANDOM.normal(0, 1, shape).astype(np.float32), f"w{'x'.join(map(str, shape))}")


def conv(op: str) -> ModelProto:
    """Return op(Conv(x))."""
    w, b = weights(4, 3, 3, 3), weights(4)
    bounds = [numpy_helper.from_array(np.float32(v), n) for n, v in (("low", -0.5), ("high", 2))]
    inputs = ["c", "low", "high"] if op == "Clip" else ["c"]
    nodes = [
        helper.make_node("Conv", ["x", w.name, b.name], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node(op, inputs, ["y"], name="act", **ATTRIBUTES.get(op, {})),
    ]
    return model(nodes, [w, b, *(bounds if op == "Clip" else [])], [1, 3, 5, 5], [1, 4, 5, 5])


def gemm(op: str) -> ModelProto:
    """Return op(Gemm(x))."""
    w, b = weights(4, 6), weights(4)
    nodes = [
        helper.make_node("Gemm", ["x", w.name, b.name], ["g"], name="gemm", transB=1, alpha=0.5),
        helper.make_node(op, ["g"], ["y"], name="act", **ATTRIBUTES.get(op, {})),
    ]
    return model(nodes, [w, b], [2, 6], [2, 4])


def model(nodes: list[onnx.NodeProto], constants: list[TensorProto], x: list[int], y: list[int]) -> ModelProto:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in (("x", x), ("y", y))]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


GELU = net(
    "  b = Add (x, bias)\n  r = Div (b, root)\n  e = Erf (r)\n  g = Add (e, one)\n"
    "  p = Mul (b, g)\n  y = Mul (p, half)",
    "float[4] bias = {1, 0.5, -0.5, 2}, float root = {1.4142135381698608}, float one = {1}, float half = {0.5}",
    opset=17,
)
SILU = net("s = Sigmoid (x)\n  y = Mul (x, s)", opset=17)
FAST_GELU = net(
    "  q = Pow (x, three)\n  c = Mul (q, k)\n  i = Add (x, c)\n  o = Mul (i, n)\n  t = Tanh (o)\n  g = Add (t, one)\n"
    "  h = Mul (x, half)\n  y = Mul (h, g)",
    "float three = {3}, float k = {0.044715}, float n = {0.797884583473205}, float one = {1}, float half = {0.5}",
    opset=17,
)
PLAIN_GELU = net(
    "  r = Div (x, root)\n  e = Erf (r)\n  g = Add (e, one)\n  p = Mul (x, g)\n  y = Mul (p, half)",
    "float root = {1.4142135381698608}, float one = {1}, float half = {0.5}", opset=17,
)  # fmt: skip
MATMUL = net("t = Transpose <perm: ints = [0, 2, 1]> (x)\n  m = MatMul (x, t)\n  s = Mul (m, k)\n  y = Relu (s)",
             "float[1] k = {0.5}", opset=17)  # fmt: skip
SOURCES = {
    **{f"conv-{op}": conv(op) for op in CONV},
    **{f"gemm-{op}": gemm(op) for op in GEMM},
    "bias-gelu": GELU, "gelu": PLAIN_GELU, "silu": SILU, "fast-gelu": FAST_GELU, "matmul": MATMUL,
}  # fmt: skip


def optimised(source: ModelProto, folder: Path, level: ort.GraphOptimizationLevel) -> ModelProto:
    """Return the model as ONNX Runtime saves it after optimising it for the CPU."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(source.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def domains(found: ModelProto) -> set[str]:
    return {node.domain for node in found.graph.node}


@pytest.mark.parametrize("name", SOURCES)
def test_an_optimised_model_becomes_standard_again(name: str, tmp_path: Path) -> None:
    before = optimised(SOURCES[name], tmp_path, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    if domains(before) <= {""}:
        pytest.skip("ONNX Runtime fuses nothing here")
    result = onnxact.decompose(before, target="onnx")
    assert not result.left, result.left
    assert domains(result.proto) == {""}
    onnx.checker.check_model(result.proto)
    verdict = result.check(providers=["cpu"])
    assert verdict.equivalent, verdict
    assert onnxact.fuse(result.proto).proto == before
    assert not onnxact.decompose(result.proto, target="onnx").changed


def test_most_of_the_sources_are_fused_by_the_runtime(tmp_path: Path) -> None:
    fused = {
        f"{node.op_type}"
        for source in SOURCES.values()
        for node in optimised(source, tmp_path, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED).graph.node
        if node.domain
    }
    assert {"FusedConv", "FusedGemm", "Gelu", "BiasGelu", "QuickGelu"} <= fused


@pytest.mark.parametrize("op", CONV)
def test_the_activation_inside_gets_the_form_of_the_target(op: str, tmp_path: Path) -> None:
    before = optimised(conv(op), tmp_path, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    result = onnxact.decompose(before, target="onnx-mlir-nnpa-z16")
    if domains(before) <= {""}:
        pytest.skip("ONNX Runtime fuses nothing here")
    assert {node.op_type for node in result.proto.graph.node} <= {
        "Conv",
        "Relu",
        "Sigmoid",
        "Tanh",
        "Mul",
        "Add",
        "Max",
        "Min",
    }
    assert result.check(providers=["cpu"]).equivalent
    assert onnxact.fuse(result.proto).proto == before


def contrib(body: str, weights: str = "", shape: str = "float[2,3,4]") -> ModelProto:
    """Return a model with nodes of ONNX Runtime's own domain."""
    found = net(body, weights, opset=17, shape=shape)
    found.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return found


BIAS = "float[4] b = {1, 0.5, -0.5, 2}"
SINGLE = {
    "gelu": contrib("[f] y = com.microsoft.Gelu (x)"),
    "fast-gelu": contrib("[f] y = com.microsoft.FastGelu (x)"),
    "fast-gelu-bias": contrib("[f] y = com.microsoft.FastGelu (x, b)", BIAS),
    "bias-gelu": contrib("[f] y = com.microsoft.BiasGelu (x, b)", BIAS),
    "quick-gelu": contrib("[f] y = com.microsoft.QuickGelu (x)"),
    "quick-gelu-alpha": contrib("[f] y = com.microsoft.QuickGelu <alpha: float = 1.5> (x)"),
    "scaled-silu": contrib("[f] y = com.microsoft.ScaledSiLU <alpha: float = 1.5> (x)"),
    "scaled-silu-input": contrib("[f] y = com.microsoft.ScaledSiLU (x, s)", "float s = {0.75}"),
    "scaled-silu-plain": contrib("[f] y = com.microsoft.ScaledSiLU (x)"),
    "transpose-matmul": contrib("[f] m = com.microsoft.TransposeMatMul <alpha: float = 0.25, transB: int = 1> (x, x)\n"
                                "  y = MatMul (m, x)"),
    "matmul": contrib("[f] m = com.microsoft.FusedMatMul <alpha: float = 0.25, transB: int = 1> (x, x)\n"
                      "  y = MatMul (m, x)"),
    "leaky": contrib("[f] y = com.microsoft.QLinearLeakyRelu <alpha: float = 0.25> (x, s, z, t, o)",
                     "float s = {0.05}, uint8 z = {100}, float t = {0.04}, uint8 o = {90}", "uint8[2,3,4]"),
    "leaky-signed": contrib("[f] y = com.microsoft.QLinearLeakyRelu (x, s, z, t, o)",
                            "float s = {0.05}, int8 z = {0}, float t = {0.04}, int8 o = {-5}", "int8[2,3,4]"),
    "sigmoid": contrib("[f] y = com.microsoft.QLinearSigmoid (x, s, z, t, o)",
                       "float s = {0.05}, uint8 z = {100}, float t = {0.004}, uint8 o = {0}", "uint8[2,3,4]"),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_a_contrib_op_computes_what_its_standard_nodes_do(name: str) -> None:
    before = SINGLE[name]
    result = onnxact.decompose(before, target="onnx")
    after = result.proto
    assert domains(after) == {""}
    onnx.checker.check_model(after, full_check=True)
    root = next(node for node in after.graph.node if node.name == "f")
    assert root.output[0] == before.graph.node[0].output[0]
    kind = helper.tensor_dtype_to_np_dtype(before.graph.input[0].type.tensor_type.elem_type)
    x = RANDOM.normal(0, 3, (2, 3, 4)).astype(np.float32)
    x = x if kind == np.float32 else RANDOM.integers(np.iinfo(kind).min, np.iinfo(kind).max, (2, 3, 4)).astype(kind)
    left, right = runtime.outputs(before, {"x": x}), runtime.outputs(after, {"x": x})
    assert left is not None
    assert right is not None
    if kind == np.float32:
        np.testing.assert_allclose(left[0], right[0], rtol=1e-6, atol=2e-6)
    else:
        np.testing.assert_array_equal(left[0], right[0])
    assert onnxact.fuse(after).proto == before
    assert not onnxact.decompose(after, target="onnx").changed


def test_they_are_recognised_by_inspect() -> None:
    found = {name: [(s.activation, s.form) for s in onnxact.inspect(m).sites] for name, m in SINGLE.items()}
    assert found["leaky"] == [("leaky_relu", "com.microsoft::QLinearLeakyRelu")]
    assert found["quick-gelu-alpha"] == [("swish", "com.microsoft::QuickGelu")]
    assert found["matmul"] == []


def test_quantised_nodes_without_a_domain_are_met_too() -> None:
    before = ModelProto.FromString(SINGLE["leaky"].SerializeToString())
    before.graph.node[0].domain = ""
    result = onnxact.decompose(before, target="onnx")
    assert [node.op_type for node in result.proto.graph.node] == ["DequantizeLinear", "LeakyRelu", "QuantizeLinear"]
    assert onnxact.fuse(result.proto).proto == before


def test_a_sum_inside_a_fused_convolution() -> None:
    w, z = weights(4, 3, 1, 1), weights(1, 4, 5, 5)
    node = helper.make_node("FusedConv", ["x", w.name, "", z.name], ["y"], "f", activation="Relu")
    node.domain = "com.microsoft"
    before = model([node], [w, z], [1, 3, 5, 5], [1, 4, 5, 5])
    before.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    result = onnxact.decompose(before, target="onnx")
    assert [n.op_type for n in result.proto.graph.node] == ["Conv", "Add", "Relu"]
    assert result.check(providers=["cpu"]).equivalent
    assert onnxact.fuse(result.proto).proto == before


def test_a_convolution_with_channels_last() -> None:
    """No kernel for it on most processors: what it computes is compared with its documentation."""
    w, b = weights(4, 3, 3, 3), weights(4)
    node = helper.make_node("NhwcFusedConv", ["x", w.name, b.name, "z"], ["y"], "f", activation="Relu", pads=[1] * 4)
    node.domain = "com.microsoft"
    before = model([node], [w, b], [1, 5, 6, 3], [1, 5, 6, 4])
    before.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 5, 6, 4]))
    before.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    after = onnxact.decompose(before, target="onnx").proto
    assert [n.op_type for n in after.graph.node] == ["Transpose", "Conv", "Transpose", "Add", "Relu"]
    onnx.checker.check_model(after, full_check=True)
    plain = model(
        [helper.make_node("Conv", ["x", w.name, b.name], ["y"], pads=[1] * 4)], [w, b], [1, 3, 5, 6], [1, 4, 5, 6]
    )
    x, z = (RANDOM.normal(0, 1, (1, 5, 6, c)).astype(np.float32) for c in (3, 4))
    left = runtime.outputs(plain, {"x": x.transpose(0, 3, 1, 2)})
    right = runtime.outputs(after, {"x": x, "z": z})
    assert left is not None
    assert right is not None
    np.testing.assert_allclose(np.maximum(left[0].transpose(0, 2, 3, 1) + z, 0), right[0], atol=1e-5)
    assert onnxact.fuse(after).proto == before


def test_what_cannot_be_taken_apart_has_a_reason() -> None:
    for body, words in (
        ("[f] y = com.microsoft.FusedMatMul <transBatchA: int = 1> (x, x)", "transposes its batches"),
        ("[f] y = com.microsoft.FusedGemm <activation: string = \"Cosine\"> (x, x)", "activation 'Cosine'"),
        ("[f] y = com.microsoft.NhwcMaxPool (x)", "ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL"),
        ("[f] y = com.microsoft.BiasSplitGelu (x, x)", "no op of the ONNX standard"),
        ("[f] y = LayerNormalization (x, x)", "from opset 17"),
    ):  # fmt: skip
        odd = contrib(body)
        odd.opset_import[0].version = 13 if "Layer" in body else 17
        result = onnxact.decompose(odd, target="onnx")
        assert words in result.left[0].reason, result.left
        assert result.left[0].node == "f"


def test_a_local_function_of_that_name_is_no_fused_node() -> None:
    before = contrib("[f] y = com.microsoft.Gelu (x)")
    body = [helper.make_node("Relu", ["a"], ["b"])]
    before.functions.append(
        helper.make_function("com.microsoft", "Gelu", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    )
    assert not onnxact.decompose(before, target="onnx").changed
    assert [site.activation for site in onnxact.inspect(before).sites] == ["relu"]


def test_a_changed_decomposition_is_not_put_together() -> None:
    after = onnxact.decompose(SINGLE["fast-gelu-bias"], target="onnx").proto
    next(node for node in after.graph.node if node.op_type == "Add").input[1] = "x"
    fused = onnxact.fuse(after)
    assert any("do not compute what the fused node did" in skip.reason for skip in fused.skipped)
