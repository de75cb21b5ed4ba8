"""What rounding alone moves as far is no difference: outputs that amplify it are inconclusive, wrong ones different."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from onnxact.check import check
from tests.check.models import net

ROWS = 65536
RNG = np.random.default_rng(3)
W = (RNG.standard_normal((8, 8)) * 0.37).astype(np.float32)
G = RNG.standard_normal(8).astype(np.float32)
TAILS = {
    "y = Reciprocal(d)": "float",
    "y = Log(d)": "float",
    "y = QuantizeLinear(d, step, none)": "int8",
    "e = Mul(d, ten) y = Floor(e)": "float",
}


def model(body: str, dtype: str, **weights: np.ndarray) -> ModelProto:
    constants = "float step = {0.05}, int8 none = {0}, float ten = {10}"
    found = net(f"float[{ROWS}, 8] x", f"{dtype}[{ROWS}, 8] y", body, constants)
    found.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return found


@pytest.mark.parametrize("tail", TAILS)
def test_a_scale_folded_into_weights_is_not_called_different(tail: str) -> None:
    before = model(f"a = MatMul(x, w) d = Mul(a, g) {tail}", TAILS[tail], w=W, g=G)
    folded = check(before, model(f"d = MatMul(x, v) {tail}", TAILS[tail], v=W * G), providers="cpu", diagnose=False)
    assert folded.outcome != "different", folded.summary()
    wrong = check(before, model(f"d = MatMul(x, v) {tail}", TAILS[tail], v=W * G * np.float32(1.01)), providers="cpu")
    assert wrong.outcome == "different"


def test_what_decides_by_halves_stays_different() -> None:
    before, after = (
        net("float[N, 8] x", "float[N, 8] y", body, "float h = {0.5}")
        for body in ("y = Round(x)", "a = Add(x, h) y = Floor(a)")
    )
    assert check(before, after, providers="cpu").outcome == "different"


def test_an_input_with_a_default_that_one_model_does_not_read() -> None:
    before, baked = (
        net("float[N, 8] x", "float[N, 8] y", f"y = Add(x, {name})", "float[8] b = {1, 2, 3, 4, 5, 6, 7, 8}")
        for name in ("b", "c")
    )
    baked.graph.initializer.add().CopyFrom(baked.graph.initializer[0])
    baked.graph.initializer[1].name = "c"
    for item in (before, baked):
        item.graph.input.append(helper.make_tensor_value_info("b", 1, [8]))
    verdict = check(before, baked, providers="cpu")
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons == ("input 'b', which has a default, is read by the model before only",)


def test_an_op_that_has_nothing_to_work_on_at_size_1() -> None:
    kernel = numpy_helper.from_array(np.full((4, 1, 2, 2), 0.25, np.float32), "k")
    inputs, outputs = "float[N, 4, H, W] x", "float[N, 4, P, Q] y"
    before = net(inputs, outputs, "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x)")
    after = net(inputs, outputs, "y = Conv<group = 4, strides = [2, 2]>(x, k)")
    after.graph.initializer.append(kernel)
    assert check(before, after, providers="cpu").equivalent


@pytest.mark.parametrize("length", [16, 64])
def test_a_table_that_is_too_short(length: int) -> None:
    """A triangle of ones for CumSum: right up to its size."""
    before = net("float[N, S] x", "float[N, S] y", "axis = Constant<value_int = 1>() y = CumSum(x, axis)")
    body = """s = Shape<start = 1, end = 2>(x) z = Constant<value_ints = [0]>() o = Constant<value_ints = [1]>()
        m = Slice(t, z, s, z) n = Slice(m, z, s, o) y = MatMul(x, n)"""
    after = net("float[N, S] x", "float[N, S] y", body)
    triangle = np.triu(np.ones((length, length), np.float32))
    after.graph.initializer.append(numpy_helper.from_array(triangle, "t"))
    verdict = check(before, after, providers="cpu")
    assert verdict.outcome == "different"
    assert any(f"open dimensions 2, then {length + 1}" in reason for reason in verdict.reasons)
