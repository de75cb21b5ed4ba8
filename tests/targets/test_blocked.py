"""A model that ONNX Runtime saved in blocks of channels becomes a standard one that computes the same.

Which layout that is depends on the processor; where there is none, the tests that need it are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import onnxact
from onnxact.model.view import View
from onnxact.rewrite.blocked import layout, weights
from onnxact.rewrite.blocked.apart import apart
from tests.laws import runtime
from tests.laws.models import CORPUS, corpus
from tests.targets.test_contrib import domains, optimised

BLOCK = layout.installed()
RANDOM = np.random.default_rng(7)
needs_blocks = pytest.mark.skipif(BLOCK not in layout.SIZES, reason="ONNX Runtime has no blocked layout here")
DOMAIN = "com.microsoft.nchwc"


class Net:
    """A chain of nodes on x of [1, channels, 12, 10]."""

    def __init__(self, channels: int, opset: int = 17, *, last: bool = False) -> None:
        self.shape = [1, 12, 10, channels] if last else [1, channels, 12, 10]
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, *shape: int) -> str:
        name = f"w{len(self.constants)}"
        value = RANDOM.normal(0, 0.3, shape).astype(np.float32)
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def fixed(self, *values: float) -> str:
        self.constants.append(numpy_helper.from_array(np.array(values, np.float32), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def conv(self, x: str, outputs: int, inputs: int, *, group: int = 1, size: int = 3) -> str:
        w, b = self.constant(outputs, inputs // group, size, size), self.constant(outputs)
        return self.add("Conv", x, w, b, group=group, pads=[size // 2] * 4)

    def model(self, *outputs: str) -> ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", [x], made, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def padded() -> ModelProto:
    """Channels that fill no block, known from behind."""
    net = Net(3)
    a = net.add("Relu", net.conv("x", 20, 3))
    return net.model(net.add("Sigmoid", net.conv(a, 20, 20)))


def residual() -> ModelProto:
    """A sum inside a convolution, several readers, and two outputs."""
    net = Net(8)
    a = net.add("LeakyRelu", net.conv("x", 32, 8), alpha=0.25)
    b = net.add("Relu", net.add("Add", net.conv(a, 32, 32), a))
    return net.model(net.add("Tanh", net.conv(b, 12, 32)), net.add("Relu", net.conv(b, 16, 32, size=1)))


def grouped() -> ModelProto:
    """One filter a channel, groups, and a normalisation that becomes a convolution."""
    net = Net(32)
    a = net.add("Relu", net.conv("x", 32, 32, group=32))
    b = net.conv(a, 64, 32, group=2)
    c = net.add("Add", b, net.conv("x", 64, 32))
    scale, bias, mean, var = (net.fixed(*np.abs(RANDOM.normal(1, 0.2, 64))) for _ in range(4))
    d = net.add("BatchNormalization", net.add("Relu", c), scale, bias, mean, var)
    return net.model(net.add("HardSigmoid", net.conv(d, 24, 64), alpha=0.25, beta=0.4))


def pools() -> ModelProto:
    net = Net(16)
    a = net.add("MaxPool", net.conv("x", 16, 16), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    b = net.add("AveragePool", a, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    c = net.add("Concat", b, a, axis=1)
    d = net.conv(c, 32, 32)
    return net.model(net.add("GlobalAveragePool", d), net.add("GlobalMaxPool", d), net.add("Mul", d, d))


def resized(mode: str, transformed: str, opset: int = 17) -> ModelProto:
    net = Net(16, opset)
    a = net.conv("x", 16, 16)
    scales = net.fixed(1, 1, 2, 3)
    how = {"mode": mode, "coordinate_transformation_mode": transformed}
    how |= {"nearest_mode": "floor"} if mode == "nearest" else {}
    b = net.add("Resize", a, "", scales, **how) if opset > 10 else net.add("Resize", a, scales, mode=mode)
    return net.model(net.add("Relu", net.conv(b, 8, 16)))


def channels_last() -> ModelProto:
    net = Net(16, last=True)
    a = net.add("Relu", net.conv(net.add("Transpose", "x", perm=[0, 3, 1, 2]), 32, 16))
    return net.model(net.add("Transpose", a, perm=[0, 2, 3, 1]))


NETS = {
    "padded": padded(), "residual": residual(), "grouped": grouped(), "pools": pools(), "last": channels_last(),
    "nearest": resized("nearest", "asymmetric"), "linear": resized("linear", "align_corners"),
    "half pixel": resized("linear", "half_pixel"), "old": resized("nearest", "asymmetric", 10),
}  # fmt: skip


def saved(source: ModelProto, folder: Path) -> ModelProto:
    return optimised(source, folder, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)


@needs_blocks
@pytest.mark.parametrize("name", NETS)
def test_it_computes_the_same_in_standard_nodes(name: str, tmp_path: Path) -> None:
    source = NETS[name]
    before = saved(source, tmp_path)
    assert DOMAIN in domains(before)
    result = onnxact.decompose(before, target="onnx")
    after = result.proto
    assert not result.left
    assert domains(after) == {""}
    onnx.checker.check_model(after, full_check=True)
    x = RANDOM.normal(0, 1, [d.dim_value for d in source.graph.input[0].type.tensor_type.shape.dim]).astype(np.float32)
    wanted, found = runtime.outputs(source, {"x": x}), runtime.outputs(after, {"x": x})
    assert wanted is not None
    assert found is not None
    for left, right in zip(wanted, found, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=2e-5)
    assert onnxact.check(before, after, providers=["cpu"], val_range=(-1, 1)).outcome != "different"
    assert not onnxact.decompose(after, target="onnx").changed
    assert onnxact.decompose(before, target="onnx").proto.SerializeToString() == after.SerializeToString()


@needs_blocks
def test_the_padding_goes(tmp_path: Path) -> None:
    after = onnxact.decompose(saved(padded(), tmp_path), target="onnx").proto
    shapes = [list(t.dims) for t in after.graph.initializer if len(t.dims) == 4]
    assert shapes == [[20, 3, 3, 3], [20, 20, 3, 3]]


@needs_blocks
def test_weights_come_back_to_the_bit(tmp_path: Path) -> None:
    source = padded()
    after = onnxact.decompose(saved(source, tmp_path), target="onnx").proto
    wanted = {tuple(t.dims): t.raw_data for t in source.graph.initializer}
    assert {tuple(t.dims): t.raw_data for t in after.graph.initializer} == wanted


@needs_blocks
def test_activations_inside_are_inspected(tmp_path: Path) -> None:
    before = saved(residual(), tmp_path)
    found = [(site.activation, site.form) for site in onnxact.inspect(before).sites]
    assert ("leaky_relu", f"{DOMAIN}::Conv") in found
    assert [activation for activation, _ in found].count("relu") == 2
    decisions = onnxact.inspect(before, target="onnx").decisions
    assert {one.status for one in decisions} == {"missing"}
    assert all(one.after is not None for one in decisions)
    assert {one.status for one in onnxact.inspect(before, target="ort:cpu").decisions} == {"native"}


@needs_blocks
def test_all_of_it_or_nothing(tmp_path: Path) -> None:
    before = saved(residual(), tmp_path)
    name = next(node.name for node in before.graph.node if node.domain == DOMAIN)
    result = onnxact.decompose(before, target="onnx", include=[f"^{name}$"], partial=True)
    assert not result.changed
    assert "whole or not at all, and not all of it is selected" in result.left[0].reason


@needs_blocks
def test_other_targets_get_it_in_their_forms(tmp_path: Path) -> None:
    after = onnxact.decompose(saved(residual(), tmp_path), target="candle-onnx").proto
    assert domains(after) == {""}
    stays = onnxact.decompose(saved(residual(), tmp_path), target="kneron-kdp520", partial=True)
    assert not stays.changed
    assert any("whole or not at all" in skip.reason for skip in stays.left)


def blocked(values: NDArray[np.float32], block: int, *, inputs_too: bool) -> NDArray[np.float32]:
    """Put weights in blocks, number by number."""
    outputs, inputs, height, width = values.shape
    found = []
    for o in range(0, outputs, block):
        for i in range(0, inputs, block if inputs_too else 1):
            for h in range(height):
                for w in range(width):
                    for inner in range(i, i + (block if inputs_too else 1)):
                        found += [values[outer, inner, h, w] for outer in range(o, o + block)]
    return np.array(found, np.float32).reshape(values.shape)


@pytest.mark.parametrize("block", layout.SIZES)
@pytest.mark.parametrize("inputs_too", [False, True])
def test_blocks_of_either_size(block: int, inputs_too: bool) -> None:
    values = np.arange(32 * 16 * 3 * 2, dtype=np.float32).reshape(32, 16, 3, 2)
    stored = blocked(values, block, inputs_too=inputs_too)
    np.testing.assert_array_equal(layout.in_order(stored, block, inputs_too=inputs_too), values)


def stored_in(block: int, channels: int) -> ModelProto:
    """Return Conv(3 -> channels) > Relu > Conv(channels -> channels) as a processor with such blocks has it."""
    up = layout.padded(channels, block)
    first, second = np.zeros((up, 3, 3, 3), np.float32), np.zeros((up, up, 1, 1), np.float32)
    first[:channels] = RANDOM.normal(0, 1, (channels, 3, 3, 3))
    second[:channels, :channels] = RANDOM.normal(0, 1, (channels, channels, 1, 1))
    tensors = [
        numpy_helper.from_array(blocked(first, block, inputs_too=False), "w"),
        numpy_helper.from_array(blocked(second, block, inputs_too=True), "v"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first", domain=DOMAIN, activation="Relu", group=1),
        helper.make_node("Conv", ["a", "v"], ["b"], "second", domain=DOMAIN, group=1),
        helper.make_node("ReorderOutput", ["b"], ["y"], "out", domain=DOMAIN, channels=channels, channels_last=0),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 8, 8]) for n, c in (("x", 3), ("y", channels)))
    y.type.tensor_type.shape.dim[2].dim_value = y.type.tensor_type.shape.dim[3].dim_value = 6
    graph = helper.make_graph(nodes, "stored", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 1)])


@pytest.mark.parametrize(("block", "channels"), [(8, 20), (8, 24), (16, 20), (16, 9), (8, 9)])
def test_the_file_says_how_large_its_blocks_are(block: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "installed", lambda: 0)
    after = onnxact.decompose(stored_in(block, channels), target="onnx")
    assert [node.op_type for node in after.proto.graph.node] == ["Conv", "Relu", "Conv"]
    assert [list(t.dims) for t in after.proto.graph.initializer] == [[channels, 3, 3, 3], [channels, channels, 1, 1]]
    assert not after.remarks


def test_where_it_does_not_say_the_installed_runtime_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model = stored_in(16, 32)
    monkeypatch.setattr(weights, "installed", lambda: 16)
    result = onnxact.decompose(model, target="onnx")
    assert "does not say whether its weights lie in blocks of 8 or of 16" in result.remarks[0]
    monkeypatch.setattr(weights, "installed", lambda: 0)
    refused = onnxact.decompose(model, target="onnx")
    assert not refused.changed
    assert "only ONNX Runtime" in refused.left[0].reason
    assert [site.activation for site in onnxact.inspect(model, target="onnx").sites] == ["relu"]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Softmax", ["b"], ["z"], axis=1), "Softmax reads 'b' in blocks"),
        (helper.make_node("Oddity", ["b"], ["z"], domain=DOMAIN), "is not known"),
        (helper.make_node("ReorderOutput", ["x"], ["z"], domain=DOMAIN, channels=3), "nothing in the graph makes it"),
        (helper.make_node("ReorderOutput", ["b"], ["z"], domain=DOMAIN, channels=17), "17 channels here and 20 there"),
        (helper.make_node("ReorderOutput", ["b"], ["z"], domain=DOMAIN), "not as ONNX Runtime writes it"),
        (helper.make_node("Conv", ["x", "x"], ["z"], domain=DOMAIN), "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_refused(node: NodeProto, words: str) -> None:
    model = stored_in(8, 20)
    model.graph.node.append(node)
    found = apart(View(model)).found
    assert all(one.expansion is None for one in found)
    assert words in found[0].reason


def test_padding_that_is_not_zero_is_refused() -> None:
    model = stored_in(8, 20)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((24, 24, 1, 1), np.float32), "v"))
    assert "the padding of 'second' is not zero" in apart(View(model)).found[0].reason


REPOSITORY = sorted((Path(__file__).parents[2] / "models").glob("*.onnx"))
FILES = [*REPOSITORY, *(Path(CORPUS) / row["file"] for row in corpus() if row["external_data"] != "y")]


@needs_blocks
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_models_load_again_everywhere(path: Path, tmp_path: Path) -> None:
    """With optimisation on, ONNX Runtime puts the result in blocks again, and computes what it did before."""
    saved_as = tmp_path / "saved.onnx"
    if session(path, saved_as) is None or DOMAIN not in domains(onnx.load(saved_as)):
        pytest.skip("nothing of it is put in blocks")
    result = onnxact.decompose(saved_as, target="onnx", partial=True, output=tmp_path / "standard.onnx")
    assert DOMAIN not in domains(result.proto)
    assert not any("blocks" in skip.reason for skip in result.left)
    before, after = session(saved_as), session(tmp_path / "standard.onnx")
    assert before is not None
    assert after is not None
    feeds = runtime.feeds_for(onnx.load(saved_as), before)
    wanted, reason = runtime.run(before, feeds)
    if wanted is None:
        pytest.skip(f"it does not run on made-up inputs: {reason}")
    found, _ = runtime.run(after, feeds)
    assert found is not None
    for left, right in zip(wanted, found, strict=True):
        scale = float(np.max(np.abs(left[np.isfinite(left)]), initial=0.0)) if left.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6 * scale)


def session(path: Path, save_as: Path | None = None) -> Any:
    """Return an optimised session, which writes what it made of the model; None where there is none."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if save_as is not None:
        options.optimized_model_filepath = str(save_as)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - its exceptions have no common base but Exception
        return None
