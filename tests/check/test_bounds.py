"""interval: every value that ONNX Runtime computes lies in it, and what the site search needs is proven."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxact.check import run
from onnxact.check.bounds import interval, values_of
from onnxact.check.drawing import signed_values
from onnxact.check.interval import ANY, UNIT, Interval
from tests.check.models import net

INF = math.inf

# expression of r over x (signed), with the interval that has to be found
PROVEN = [
    ("r = Relu(x)", Interval(0, INF)),
    ("r = Sigmoid(x)", UNIT),
    ("r = Softmax(x)", UNIT),
    ("r = Abs(x)", Interval(0, INF)),
    ("r = Exp(x)", Interval(0, INF)),
    ("a = Abs(x) r = Sqrt(a)", Interval(0, INF)),
    ("r = Softplus(x)", Interval(0, INF)),
    ("r = HardSigmoid(x)", UNIT),
    ("r = Clip(x, one, six)", Interval(1, 6)),
    ("r = Clip(x, one)", Interval(1, INF)),
    ('r = Clip(x, "", one)', Interval(-INF, 1)),
    ("r = Mul(x, x)", Interval(0, INF)),
    ("r = Pow(x, two)", Interval(0, INF)),
    ("b = Less(x, one) r = Cast<to = 1>(b)", Interval(0, 1.01)),
    ("u = Cast<to = 2>(x) r = Cast<to = 1>(u)", Interval(0, INF)),
    ("a = Relu(x) r = MaxPool<kernel_shape = [2, 2]>(a)", Interval(0, INF)),
    ("a = Relu(x) r = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(a)", Interval(0, INF)),
    ("a = Relu(x) r = GlobalAveragePool(a)", Interval(0, INF)),
    ("a = Relu(x) b = Reshape(a, flat) c = Transpose(b) r = Squeeze(c)", Interval(0, INF)),
    ("a = Relu(x) b = Sigmoid(x) r = Concat<axis = 1>(a, b)", Interval(0, INF)),
    ("a = Relu(x) b = Sigmoid(x) r = Add(a, b)", Interval(0, INF)),
    ("a = Relu(x) b = Sigmoid(x) r = Mul(a, b)", Interval(0, INF)),
    ("a = Relu(x) r = Neg(a)", Interval(-INF, 0)),
    ("a = Sigmoid(x) r = Sub(six, a)", Interval(4.9, 6.1)),
    ("a = Sigmoid(x) r = Div(a, six)", Interval(0, 1.0201 / 6)),
    ("a = Relu(x) r = Conv(a, w)", Interval(0, INF)),
    ("a = Relu(x) r = BatchNormalization(a, one1, one1, zero1, one1)", Interval(0.9, INF)),
    ("r = Max(x, one)", Interval(1, INF)),
    ("r = Min(x, one)", Interval(-INF, 1)),
    ("a = Relu(x) r = LeakyRelu<alpha = -3.0>(a)", Interval(0, INF)),
    ("a = Relu(x) r = Pad(a, pads)", Interval(0, INF)),
    ("a = Relu(x) r, mask = Dropout(a)", Interval(0, INF)),
    ("q = QuantizeLinear(x, one, zp) r = DequantizeLinear(q, one, zp)", Interval(0, INF)),
    ("a = Relu(x) r = Selu<gamma = -1.0>(a)", Interval(-INF, 0)),
    ("r = LeakyRelu<alpha = -0.5>(x)", Interval(0, INF)),
    ("r = PRelu(x, minus)", Interval(0, INF)),
    ("r = Elu<alpha = 2.0>(x)", Interval(-2.1, INF)),
    ("r = Selu(x)", Interval(-1.9, INF)),
    ("r = Tanh(x)", Interval(-1.01, 1.01)),
    ("r = Erf(x)", Interval(-1.01, 1.01)),
    ("r = Sin(x)", Interval(-1.01, 1.01)),
    ("r = HardSwish(x)", Interval(-0.4, INF)),
    ("r = Gelu(x)", Interval(-0.18, INF)),
    ("r = Mish(x)", Interval(-0.32, INF)),
    ("r = LogSoftmax(x)", Interval(-INF, 0)),
    ('a = Relu(x) r = Einsum<equation = "abij,abij->ab">(a, a)', Interval(0, INF)),
    ("a = Relu(x) r = ReduceProd(a)", Interval(0, INF)),
    ("a = Relu(x) r = Trilu(a)", Interval(0, INF)),
    ("a = Relu(x) r, i = TopK(a, k)", Interval(0, INF)),
    ("a = Relu(x) r = ScatterElements<axis = 3>(a, where, more)", Interval(0, INF)),
    ("a = Relu(x) r = CastLike(a, one)", Interval(0, INF)),
    ("a = Relu(x) r = LRN<size = 3>(a)", Interval(0, INF)),
    ("a = Relu(x) r = GridSample(a, grid)", Interval(0, INF)),
    ("r = RandomUniformLike<low = 2.0, high = 3.0>(x)", Interval(1.9, 3.1)),
    ("q, s, z = DynamicQuantizeLinear(x) r = Cast<to = 1>(q)", Interval(0, 258)),
]
# what must not be taken for one-sided
OPEN = [
    "r = Identity(x)",
    'r = Einsum<equation = "abij,abij->ab">(x, x)',
    "a = Relu(x) r = ScatterElements<axis = 3>(a, where, less)",
    'a = Relu(x) r = GridSample<mode = "cubic">(a, grid)',
    "a = Relu(x) r = Sub(a, one)",
    "a = Relu(x) r = Mul(a, x)",
    "a = Relu(x) r = Conv(a, signed)",
    "a = Relu(x) r = Add(a, x)",
    "r = Pow(x, three)",
    "a = Relu(x) r = Pad(a, pads, minus)",
    "a = Clip(x, minus, one) r = Identity(a)",
    "q = QuantizeLinear(x, one, zp8) r = DequantizeLinear(q, one, zp8)",
]
WEIGHTS = """
    float one = {1}, float two = {2}, float three = {3}, float six = {6}, float minus = {-1},
    float[1] one1 = {1}, float[1] zero1 = {0}, int64[2] flat = {1, 16}, uint8 zp = {0}, uint8 zp8 = {8},
    float[1, 1, 2, 2] w = {0, 1, 2, 3}, float[1, 1, 2, 2] signed = {0, 1, -2, 3},
    int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, int64[1] k = {2},
    int64[1, 1, 1, 1] where = {2}, float[1, 1, 1, 1] more = {3}, float[1, 1, 1, 1] less = {-3},
    float[1, 1, 2, 2] grid = {-1, -1, 0.5, 0.5}
"""


@pytest.mark.parametrize("body", [*[body for body, _ in PROVEN], *OPEN])
def test_interval_holds_what_is_computed(body: str) -> None:
    model = net("float[1, 1, 4, 4] x", "float y", f"{body} y = Identity(r)", WEIGHTS, opset=20)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    found = interval(values_of(model.graph), "r")
    for seed in range(8):
        x = signed_values(np.random.default_rng(seed), (1, 1, 4, 4), np.float32)
        result = run(model, {"x": np.abs(x) if "Cast<to = 2>" in body else x})
        assert isinstance(result, dict), result
        values = result["y"][~np.isnan(result["y"])]
        assert found.low <= values.min()
        assert values.max() <= found.high


@pytest.mark.parametrize(("body", "expected"), PROVEN)
def test_one_sided_values_are_proven(body: str, expected: Interval) -> None:
    model = net("float[1, 1, 4, 4] x", "float y", f"{body} y = Identity(r)", WEIGHTS)
    found = interval(values_of(model.graph), "r")
    assert found.low >= expected.low
    assert found.high <= expected.high


@pytest.mark.parametrize("body", OPEN)
def test_open_values_are_not_called_one_sided(body: str) -> None:
    model = net("float[1, 1, 4, 4] x", "float y", f"{body} y = Identity(r)", WEIGHTS)
    found = interval(values_of(model.graph), "r")
    assert found.low < 0 < found.high


def test_fed_values_are_open_even_with_a_default() -> None:
    model = net("float[2] x, float[2] w", "float[2] y", "r = Mul(w, w) y = Add(x, w)", "float[2] w = {1, 2}")
    assert interval(values_of(model.graph), "w") == ANY
    assert interval(values_of(model.graph), "r").low == 0


def test_only_first_outputs_are_bounded_by_their_op() -> None:
    model = net("float[1, 1, 4, 4] x", "float y", "c = Clip(x, six) r, i = MaxPool<kernel_shape = [2, 2]>(c)", WEIGHTS)
    assert interval(values_of(model.graph), "r").low == 6
    assert interval(values_of(model.graph), "i") == ANY


def test_deep_and_wide_graphs_end() -> None:
    body = "v0 = Relu(x) " + " ".join(f"v{index + 1} = Add(v{index}, v{index})" for index in range(200))
    model = net("float[2] x", "float[2] v200", body)
    assert interval(values_of(model.graph), "v30").low == 0
    assert interval(values_of(model.graph), "v200") == ANY


ENDS = st.floats(allow_nan=False, width=32)


@given(ENDS, ENDS, ENDS, ENDS, st.floats(0, 1), st.floats(0, 1))
def test_arithmetic_is_sound(a: float, b: float, c: float, d: float, s: float, t: float) -> None:
    """Results of values of the intervals, in float32, lie in the interval of the results, NaN and overflow apart."""
    first, second = Interval(min(a, b), max(a, b)), Interval(min(c, d), max(c, d))
    with np.errstate(all="ignore"):
        x, y = (np.float32(i.low + (i.high - i.low) * part) for i, part in ((first, s), (second, t)))
        x, y = np.clip(x, first.low, first.high), np.clip(y, second.low, second.high)
        pairs = [
            (first.plus(second), x + y),
            (first.negated(), -x),
            (first.magnitude(), abs(x)),
            (first.hull(second), x),
            (first.sign(), x),
        ]
        if abs(float(x) * float(y)) > 1e-30:
            pairs.append((first.times(second), x * y))
        if first.low > 1e-30 or first.high < -1e-30:
            pairs.append((first.reciprocal(), np.float32(1) / x))
    for found, value in pairs:
        if np.isfinite(value):
            assert found.low <= float(value) <= found.high
