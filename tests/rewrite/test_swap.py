"""One activation for another: slopes, refusals, every activation of the table at several opsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.numeric import FLOATS
from onnxact.errors import UsageError
from tests.laws import runtime
from tests.rewrite.texts import found, net

RELU = net("  [act] y = Relu (x)")
SLOPES = np.asarray([0.1, 0.2, 0.3], np.float32)


def _slope(model: ModelProto) -> NDArray[Any]:
    (node,) = model.graph.node
    assert (node.op_type, node.name) == ("PRelu", "act")
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == node.input[1]))


@pytest.mark.parametrize(
    ("slopes", "axis", "shape"),
    [
        (SLOPES, 1, [3, 1]),
        (SLOPES.astype(np.float64), -2, [3, 1]),
        (np.ones(2, np.float32), 0, [2, 1, 1]),
        (np.ones(4, np.float32), -1, [4]),
        (SLOPES.reshape(3, 1), 1, [3, 1]),
        (SLOPES.reshape(1, 3, 1), 1, [1, 3, 1]),
        (np.ones((2, 3, 4), np.float32), 1, [2, 3, 4]),
        (np.asarray(0.5), 1, [1]),
        (0.5, 1, [1]),
        (np.full((1, 1, 1, 1), 0.5), 1, [1]),
        (np.asarray([0.5]), 1, [1]),
        (np.asarray([1, 2, 3]), 1, [3, 1]),
    ],
)
def test_slopes_are_laid_along_the_channel_axis(slopes: Any, axis: int, shape: list[int]) -> None:
    result = onnxact.swap_relu(RELU, to="prelu", parameters={"slope": slopes}, channel_axis=axis)
    slope = _slope(result.proto)
    assert list(slope.shape) == shape
    assert slope.dtype == np.float32
    assert slope.reshape(-1).tolist() == np.float32(slopes).reshape(-1).tolist()


def test_one_number_for_each_channel() -> None:
    slope = _slope(onnxact.swap_relu(RELU, to="prelu", alpha=0.5, per_channel=True).proto)
    assert slope.tolist() == [[0.5], [0.5], [0.5]]


@pytest.mark.parametrize("slopes", [np.ones(2), np.ones((3,)).repeat(2), np.ones((2, 1)), np.ones(0), np.ones((3, 3))])
def test_slopes_that_do_not_fit_are_a_mistake(slopes: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match=r"slopes of shape .* do not fit act, whose input is \[2, 3, 4\]"):
        onnxact.swap_relu(RELU, to="prelu", parameters={"slope": slopes})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"slope": np.asarray([0.1, np.nan, 0.2])}, "must be a finite float32 number, not nan"),
        ({"slope": np.asarray([0.1, 1e39, 0.2])}, r"must be a finite float32 number, not 1e\+39"),
        ({"slope": np.asarray(["a"])}, "slope: must be numbers"),
        ({"alpha": 0.1}, "prelu has no parameter 'alpha'; its parameters: slope"),
    ],
)
def test_bad_slopes_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        onnxact.swap(RELU, "relu", "prelu", parameters=parameters)


@pytest.mark.parametrize(
    ("to", "parameters", "message"),
    [
        ("leaky_relu", {"alpha": np.nan}, "must be a finite float32 number"),
        ("leaky_relu", {"alpha": np.inf}, "must be a finite float32 number"),
        ("leaky_relu", {"alpha": SLOPES}, "takes one number, not one for each channel; use --to prelu"),
        ("celu", {"alpha": 0.0}, "celu needs alpha > 0, not alpha = 0"),
        ("celu", {"alpha": -1}, "celu needs alpha > 0"),
        ("clip", {"min": 5, "max": 1}, "clip needs min <= max"),
        ("clip", {"min": np.nan}, "must be a finite float32 number"),
        ("leaky", {}, "unknown activation 'leaky'"),
    ],
)
def test_bad_parameters_are_a_mistake(to: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        onnxact.swap(RELU, "relu", to, parameters=parameters)


def test_slopes_by_the_name_of_node_or_output() -> None:
    model = net("  [first] h = Relu (x)\n  k = Relu (h)\n  [third] y = Relu (k)")
    slopes = {"first": SLOPES, "k": np.asarray([0.5]), "unused": np.ones(7)}
    result = onnxact.swap_relu(model, to="prelu", parameters={"slope": slopes})
    assert [change.site.output for change in result.sites] == ["h", "k"]
    skip, more = result.skipped
    assert more.node == "unused"
    assert (skip.node, skip.reason) == ("third", "the slopes have no array called 'third'; they have first, k, unused")


@pytest.mark.parametrize(
    ("shape", "axis", "reason"),
    [
        ("float[N,C,4]", 1, "the number of channels of 'x' is not known (axis 1 of ['N', 'C', 4])"),
        ("float[2,3]", 2, "has rank 2 and no channel axis 2"),
        ("float[2,3]", -3, "has rank 2 and no channel axis -3"),
        ("float", 1, "the rank of 'x' is not known, which slopes for each channel need"),
        ("float[2,0]", 1, "'x' has no channel (axis 1 of [2, 0])"),
    ],
)
def test_channels_that_are_not_known_are_a_reason(shape: str, axis: int, reason: str) -> None:
    model = net("  [act] y = Relu (x)", shape=shape)
    if shape == "float":
        model.graph.input[0].type.tensor_type.ClearField("shape")
    result = onnxact.swap_relu(model, to="prelu", per_channel=True, channel_axis=axis)
    assert [skip.reason for skip in result.skipped] == [reason]


@pytest.mark.parametrize(("dtype", "elem_type"), [("float16", 10), ("bfloat16", 16), ("float32", 1), ("float64", 11)])
def test_slopes_have_the_dtype_of_the_tensor(dtype: str, elem_type: int) -> None:
    spelled = {"float32": "float", "float64": "double"}.get(dtype, dtype)
    model = net("  [act] y = Relu (x)", shape=f"{spelled}[2,3]", opset=16)
    result = onnxact.swap_relu(model, to="prelu", parameters={"slope": SLOPES})
    (slope,) = result.proto.graph.initializer
    assert slope.data_type == elem_type
    assert numpy_helper.to_array(slope).tolist() == SLOPES.astype(FLOATS[dtype]).tolist()
    onnx.checker.check_model(result.proto, full_check=True)


# Where nothing can be done, or would have no effect


QUANTISED = "  [act] h = Relu (x)\n  [quant] q = QuantizeLinear (h, s, z)\n  y = DequantizeLinear (q, s, z)"


@pytest.mark.parametrize(
    ("weights", "clips"),
    [
        ("float s = {0.1}, uint8 z = {0}", True),
        ("float s = {0.1}, int8 z = {-128}", True),
        ("float s = {0.1}, uint8 z = {3}", False),
        ("float s = {0.1}, int8 z = {0}", False),
    ],
)
def test_a_quantiser_that_clips_at_zero_makes_a_swap_pointless(weights: str, clips: bool) -> None:
    model = net(QUANTISED, weights)
    result = onnxact.swap_relu(model)
    assert result.changed is not clips
    if clips:
        assert result.skipped[0].reason.startswith("quant behind it clips at zero, so that the swap would have no")
        assert onnxact.swap_relu(model, allow_no_effect=True).changed


def test_a_quantiser_beside_another_reader_does_not_hide_the_swap() -> None:
    model = net(QUANTISED + "\n  k = Neg (h)", "float s = {0.1}, uint8 z = {0}")
    assert onnxact.swap_relu(model).changed
    model = net(QUANTISED, "float s = {0.1}, uint8 z = {0}")
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "h"
    assert onnxact.swap_relu(model).changed


BETWEEN = {
    "identity": "  i = Identity (h)",
    "max pool": "  i = MaxPool <kernel_shape: ints = [2]> (h)",
    "reshape": "  i = Reshape (h, dims)",
    "transpose": "  i = Transpose <perm: ints = [0, 2, 1]> (h)",
    "two": "  j = Transpose <perm: ints = [1, 0, 2]> (h)\n  i = Flatten (j)",
    "unsqueeze": "  j = Unsqueeze (h, one)\n  i = Squeeze (j, one)",
    "slice": "  i = Slice (h, one, two)",
}


def behind(between: str, zero: int, more: str = "") -> ModelProto:
    body = f"  [act] h = Relu (x)\n{between}\n  [quant] q = QuantizeLinear (i, s, z)\n  y = DequantizeLinear (q, s, z)"
    weights = (
        f"float s = {{0.1}}, uint8 z = {{{zero}}}, int64[1] dims = {{-1}}, int64[1] one = {{1}}, int64[1] two = {{2}}"
    )
    return net(body + more, weights)


@pytest.mark.parametrize("between", BETWEEN)
def test_a_quantiser_behind_what_only_moves_numbers_counts(between: str) -> None:
    clips, keeps = behind(BETWEEN[between], 0), behind(BETWEEN[between], 3)
    for model in (clips, keeps):
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")
    refused = onnxact.swap_relu(clips)
    assert not refused.changed
    assert "clips at zero" in refused.skipped[0].reason
    assert onnxact.swap_relu(clips, allow_no_effect=True).changed
    assert "calibrate" in onnxact.swap_relu(keeps).sites[0].warning


@pytest.mark.parametrize(
    ("between", "more"),
    [
        ("  i = AveragePool <kernel_shape: ints = [2]> (h)", ""),
        ("  i = Neg (h)", ""),
        ("  i = Identity (h)", "\n  k = Neg (i)"),
        ("  i = Identity (h)", "\n  [other] k = QuantizeLinear (h, s, dims)"),
        ("  i, j = MaxPool <kernel_shape: ints = [2]> (h)", ""),
    ],
)
def test_what_lets_numbers_below_zero_through_hides_nothing(between: str, more: str) -> None:
    assert onnxact.swap_relu(behind(between, 0, more)).changed


def test_integers_are_left_alone() -> None:
    model = net("  [act] y = Relu (x)", shape="int32[2]")
    (skip,) = onnxact.swap_relu(model).skipped
    assert (skip.node, skip.reason) == ("act", "not a floating-point tensor")


def test_an_unknown_dtype_is_a_reason() -> None:
    model = net("  h = strange.Op (x)\n  [act] k = Relu (h)\n  y = Cast <to = 1> (k)")
    model.opset_import.add(domain="strange", version=1)
    (skip,) = onnxact.swap_relu(model).skipped
    assert "the element type of 'k' is not known; run onnx.shape_inference" in skip.reason


@pytest.mark.parametrize(("opset", "to", "op"), [(6, "leaky_relu", "LeakyRelu"), (1, "leaky_relu", "LeakyRelu")])
def test_old_opsets_take_what_they_have(opset: int, to: str, op: str) -> None:
    model = net("  [act] y = Relu (x)", opset=opset)
    assert onnxact.swap_relu(model, to=to).proto.graph.node[0].op_type == op


@pytest.mark.parametrize(
    ("opset", "to", "words"), [(6, "prelu", "opset 6 is too old"), (6, "gelu", "forms need opset 7")]
)
def test_old_opsets_refuse_what_they_have_not(opset: int, to: str, words: str) -> None:
    model = net("  [act] y = Relu (x)", opset=opset)
    (skip,) = onnxact.swap(model, "relu", to).skipped
    assert words in skip.reason


@pytest.mark.parametrize("slope", [[0.25, 0.5, 1.0], [0.25, 0.5, 2.0]])
def test_a_slope_that_is_there_already(slope: list[float]) -> None:
    model = net("  [act] y = PRelu (x, s)", "float[3,1] s = {0.25, 0.5, 1}")
    result = onnxact.swap(model, "prelu", "prelu", parameters={"slope": np.asarray(slope)})
    assert result.changed is (slope[2] == 2.0)
    if not result.changed:
        assert result.skipped[0].reason == "is prelu with these parameters already"


def test_a_swap_drops_the_record_of_a_decomposition() -> None:
    decomposed = onnxact.decompose(RELU, form="max").proto
    swapped = onnxact.swap_relu(decomposed).proto
    assert not swapped.graph.node[0].metadata_props
    assert not onnxact.fuse(swapped).skipped


# Every activation of the table


CHOSEN: dict[str, dict[str, float]] = {"clip": {"min": -1.0, "max": 2.0}}
"""Parameters for what has no effect with ONNX's defaults."""


@pytest.mark.parametrize("opset", [9, 13, 18, 24])
@pytest.mark.parametrize("to", [name for name in ACTIVATIONS if name != "noisy_relu"])
def test_relu_becomes_every_activation(to: str, opset: int) -> None:
    """By the op, or where this opset has none in a form; and the outputs are those of the reference, in float64."""
    row = ACTIVATIONS[to]
    chosen = CHOSEN.get(to, {})
    result = onnxact.swap(net("  [act] y = Relu (x)", opset=opset), "relu", to, parameters=chosen)
    if to == "relu":
        assert result.skipped[0].reason == "is relu with these parameters already"
        return
    assert result.changed, result.skipped
    onnx.checker.check_model(result.proto, full_check=True)
    assert result.proto.graph.node[-1].name == "act"
    _assert_close_to_reference(result.proto, row.reference, {**row.defaults, **chosen})


def _assert_close_to_reference(model: ModelProto, reference: Any, parameters: dict[str, float]) -> None:
    x = np.linspace(-6, 6, 24, dtype=np.float32).reshape(2, 3, 4)
    outputs = runtime.outputs(model, {"x": x})
    assert outputs is not None
    with np.errstate(all="ignore"):
        wanted = reference(x.astype(np.float64), **{k: np.float64(v) for k, v in parameters.items()})
    np.testing.assert_allclose(outputs[0], wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("source", [name for name, row in ACTIVATIONS.items() if row.native is not None])
def test_every_activation_becomes_relu(source: str) -> None:
    chosen = CHOSEN.get(source, {})
    swapped = onnxact.swap(RELU, "relu", source, parameters=chosen).proto if source != "relu" else RELU
    back = onnxact.swap(swapped, source, "relu") if source != "relu" else onnxact.swap(RELU, "relu", "tanh")
    assert back.changed
    if source != "relu":
        assert [node.op_type for node in back.proto.graph.node] == ["Relu"]
        assert back.proto.SerializeToString() == RELU.SerializeToString()


def test_noise_can_be_taken_out_and_not_put_in() -> None:
    noisy = net("  n = RandomNormalLike <scale = 0.5> (x)\n  s = Add (x, n)\n  [act] y = Relu (s)")
    assert found(noisy) == [("noisy_relu", "relu")]
    assert onnxact.swap(noisy, "noisy_relu", "relu").proto.SerializeToString() == RELU.SerializeToString()
    with pytest.raises(UsageError, match="it can be swapped for relu, not the reverse"):
        onnxact.swap(RELU, "relu", "noisy_relu")


def test_in_a_function_the_slopes_become_a_constant_node() -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 18, "local" : 1]>
net (float[2,3] x) => (float[2,3] y) { y = local.f (x) }
<domain: "local", opset_import: ["" : 18]>
f (a) => (b) { [act] b = Relu (a) }
""")
    after = onnxact.swap_relu(model, to="prelu", alpha=0.25).proto
    assert [node.op_type for node in after.functions[0].node] == ["Constant", "PRelu"]
    assert after.functions[0].node[0].attribute[0].t.data_type == TensorProto.FLOAT
    outputs = runtime.outputs(after, {"x": -np.ones((2, 3), np.float32)})
    assert outputs is not None
    assert np.all(outputs[0] == -0.25)
