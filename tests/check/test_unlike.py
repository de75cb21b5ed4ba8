"""What is not the same outside the sites is tried on its own, on values that no inputs bring there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnxact.check import Verdict, check
from tests.check.models import net

MATRIX = f"float[8, 8] w = {{{', '.join(str(((37 * i) % 17 - 8) / 8) for i in range(64))}}}"
NORM = "float[8] s = {1, 2, 1, 1, 1, 3, 1, 1}, float[8] b = {0, 1, 0, 0, 2, 0, 0, 0}"
LAST = "int64[1] last = {-1}"
NUMBERS = "float half = {0.5}, float zero = {0}, float two = {2}, float three = {3}, float four = {4}, float six = {6}"
STEPS = "float step = {0.1}, int8 none = {0}, uint8 least = {0}"
ENDS = "int64[1] e0 = {0}, int64[1] e4 = {4}, int64[1] e8 = {8}, int64[1] e1 = {1}"
EPSILON = "float tiny = {1e-5}, float little = {1e-9}"
MORE = f"""int64 fifteen = {{15}}, float[16] table = {{{", ".join(map(str, range(16)))}}}, int64 whole = {{2}},
    int64[6] around = {{0, 0, 1, 0, 0, 1}}, float hundred = {{100}},
    float[8] levels = {{0.3, 1.3, -0.7, 2.1, 0.9, -1.1, 0.2, 3.3}}"""
WEIGHTS = ", ".join((MATRIX, NORM, LAST, NUMBERS, STEPS, ENDS, EPSILON, MORE))
TIES = ("Greater", "GreaterOrEqual")
DENSE = "a = MatMul(x, w) "
ROOT = """<domain: "local", opset_import: ["": 18]> Root (t) => (u) {{
    e = Constant<value_float = {}>() q = Mul(t, t) r = Add(q, e) u = Sqrt(r) }}"""
LOOP = """n = Constant<value_int = 2>() y = Loop(n, , a) <body = turn (int64 i, bool c, float[N, 8] t)
    => (bool d, float[N, 8] u) {{ d = Identity(c) q = Mul(t, t) e = Constant<value_float = {}>() r = Add(q, e)
    u = Sqrt(r) }}>"""

WRONG: Mapping[str, Sequence[str]] = {
    "another epsilon": [
        DENSE + f"h = LayerNormalization<epsilon = {e}>(a, s, b) y = Neg(h)" for e in ("1e-5", "1e-12")
    ],
    "the last of equal ones": [
        DENSE + f"i = ArgMax<axis = 1{last}>(a) f = Cast<to = 1>(i) y = Mul(f, x)"
        for last in ("", ", select_last_index = 1")
    ],
    "fewer bits": [DENSE + f"c = Cast<to = {kind}>(a) y = Cast<to = 1>(c)" for kind in (7, 6)],
    "a tie": [DENSE + f"c = {op}(a, half) y = Where(c, a, x)" for op in TIES],
    "no maximum": (DENSE + "y = Softmax(a)", DENSE + "e = Exp(a) t = ReduceSum(e, last) y = Div(e, t)"),
    "a logarithm of 0": (DENSE + "y = LogSoftmax(a)", DENSE + "e = Softmax(a) y = Log(e)"),
    "cancellation": (
        "m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) i = Sin(x) y = Sub(i, v)",
        "m = ReduceMean(x, last) q = Mul(x, x) p = ReduceMean(q, last) n = Mul(m, m) v = Sub(p, n) i = Sin(x) "
        "y = Sub(i, v)",
    ),
    "no saturation": (
        "q = QuantizeLinear(x, step, none) y = DequantizeLinear(q, step, none)",
        "d = Div(x, step) r = Round(d) y = Mul(r, step)",
    ),
    "halves up": (DENSE + "y = Round(a)", DENSE + "h = Add(a, half) y = Floor(h)"),
    "an approximation": (DENSE + "y = com.microsoft.Gelu(a)", DENSE + "y = com.microsoft.FastGelu(a)"),
    "another epsilon beside a power": (
        DENSE
        + """m = ReduceMean(a, last) d = Sub(a, m) q = Pow(d, two) v = ReduceMean(q, last) ve = Add(v, tiny)
            r = Sqrt(ve) t = Div(d, r) u = Mul(t, s) y = Add(u, b)""",
        DENSE + "y = LayerNormalization<epsilon = 1e-12>(a, s, b)",
    ),
    "an index that nothing limits": (
        "p = Abs(x) c = Cast<to = 7>(p) n = Min(c, fifteen) g = Gather(table, n) y = Mul(g, x)",
        "p = Abs(x) c = Cast<to = 7>(p) g = Gather(table, c) y = Mul(g, x)",
    ),
    "zeros around what is below 0": (
        "r = Sin(x) u = Unsqueeze(r, e0) p = MaxPool<kernel_shape = [3], pads = [1, 1]>(u) y = Squeeze(p, e0)",
        "r = Sin(x) u = Unsqueeze(r, e0) q = Pad(u, around) p = MaxPool<kernel_shape = [3]>(q) y = Squeeze(p, e0)",
    ),
    "a slope made of what enters": tuple(
        DENSE + f"m = Abs(a) g = Greater(m, hundred) q = Where(g, {slope}, half) y = PRelu(a, q)"
        for slope in ("two", "three")
    ),
    "thresholds by channel": tuple(DENSE + f"c = {op}(a, levels) y = Where(c, a, x)" for op in TIES),
    "more than 16 bits": (
        DENSE + "p = Abs(a) h = Mul(p, half) c = Cast<to = 5>(h) y = Cast<to = 1>(c)",
        DENSE + "p = Abs(a) c = Cast<to = 7>(p) d = Div(c, whole) y = Cast<to = 1>(d)",
    ),
    "in a body": (DENSE + LOOP.format("1e-7"), DENSE + LOOP.format("1e-9")),
}

RIGHT: Mapping[str, Sequence[str]] = {
    "LayerNormalization": (
        DENSE + "y = LayerNormalization(a, s, b)",
        DENSE
        + """m = ReduceMean(a, last) d = Sub(a, m) q = Mul(d, d) v = ReduceMean(q, last) ve = Add(v, tiny)
            r = Sqrt(ve) t = Div(d, r) u = Mul(t, s) y = Add(u, b)""",
    ),
    "Softmax": (
        DENSE + "y = Softmax(a)",
        DENSE + "m = ReduceMax(a, last) d = Sub(a, m) e = Exp(d) t = ReduceSum(e, last) y = Div(e, t)",
    ),
    "an axis counted from the end": (DENSE + "y = Softmax<axis = -1>(a)", DENSE + "y = Softmax<axis = 1>(a)"),
    "Gemm": (DENSE + "y = Add(a, b)", "y = Gemm(x, w, b)"),
    "transposed": (
        "t = Transpose<perm = [1, 0]>(x) u = MatMul(w, t) y = Transpose<perm = [1, 0]>(u)",
        "v = Transpose<perm = [1, 0]>(w) y = MatMul(x, v)",
    ),
    "LpNormalization": ("y = LpNormalization(x)", "a = ReduceL2<keepdims = 1>(x, last) y = Div(x, a)"),
    "Split": (
        "a, c = Split<axis = 1, num_outputs = 2>(x) y = Concat<axis = 1>(c, a)",
        "a = Slice(x, e0, e4, e1) c = Slice(x, e4, e8, e1) y = Concat<axis = 1>(c, a)",
    ),
    "quantised again": (
        "q = QuantizeLinear(x, step, none) d = DequantizeLinear(q, step, none) y = Neg(d)",
        """q = QuantizeLinear(x, step, none) d = DequantizeLinear(q, step, none) r = QuantizeLinear(d, step, none)
            e = DequantizeLinear(r, step, none) y = Neg(e)""",
    ),
    "rounded again": ("f = Floor(x) r = Round(f) y = Neg(r)", "f = Floor(x) y = Neg(f)"),
    "a remainder of what is never below 0": tuple(
        DENSE + f"i = ArgMax<axis = 1>(a) j = Mod{how}(i, whole) f = Cast<to = 1>(j) y = Mul(f, x)"
        for how in ("", "<fmod = 1>")
    ),
    "0 and 1 squared": (
        "g = Greater(x, half) i = Cast<to = 7>(g) j = Mul(i, i) f = Cast<to = 1>(j) y = Mul(f, x)",
        "g = Greater(x, half) i = Cast<to = 7>(g) f = Cast<to = 1>(i) y = Mul(f, x)",
    ),
    "never below another": ("r = Relu(x) k = Max(r, x) y = Mul(k, two)", "r = Relu(x) y = Mul(r, two)"),
    "of sum 1": ("p = Softmax(x) t = ReduceSum(p, last) u = Div(p, t) y = Neg(u)", "p = Softmax(x) y = Neg(p)"),
    "Pow": ("y = Pow(x, two)", "y = Mul(x, x)"),
    "equal ones merged": (
        "a = Sin(x) c = Sin(x) p = MatMul(a, w) q = MatMul(c, w) y = Mul(p, q)",
        "a = Sin(x) p = MatMul(a, w) y = Mul(p, p)",
    ),
}


def judged(first: str, second: str) -> Verdict:
    return check(model(first), model(second), providers="cpu")


def model(body: str, functions: str = "") -> ModelProto:
    return net("float[N, 8] x", "float[N, 8] y", body, WEIGHTS, functions=functions)


@pytest.mark.parametrize("kind", WRONG)
def test_a_difference_that_inputs_do_not_show(kind: str) -> None:
    verdict = judged(*WRONG[kind])
    assert not verdict.equivalent, verdict.summary()
    told = ("and differs on its own", "is not the same in both models")
    assert verdict.outcome == "different" or any(text in reason for reason in verdict.reasons for text in told)


@pytest.mark.parametrize("kind", RIGHT)
def test_the_same_in_other_nodes(kind: str) -> None:
    for pair in (RIGHT[kind], RIGHT[kind][::-1]):
        verdict = judged(*pair)
        assert verdict.equivalent, verdict.summary()
        tried = "all parts that are not the same were tried on their own, too"
        assert all(note.endswith(tried) for note in verdict.notes if note.startswith("besides its sites"))


def test_a_constant_of_a_local_function() -> None:
    first, second, again = (model("y = local.Root(x)", ROOT.format(e)) for e in ("1e-7", "1e-9", "1e-7"))
    assert not check(first, second, providers="cpu").equivalent
    assert check(first, again, providers="cpu").equivalent


def test_what_shows_only_where_a_dimension_is_1() -> None:
    weights = "int64[1] axis = {1}"
    pair = [
        net("float[N, 1, 8] x", "float[M, K] y", f"a = Neg(x) y = Squeeze({read})", weights)
        for read in ("a, axis", "a")
    ]
    verdict = check(pair[0], pair[1], providers="cpu")
    assert verdict.outcome == "different"
    assert any("open dimensions 1" in reason for reason in verdict.reasons)


def test_a_tolerance_that_is_given_holds_for_parts() -> None:
    shift = "o = Constant<value_float = 1e-4>() h = Add(x, o) y = Neg(h)"
    pair = model("y = Neg(x)"), model(shift)
    assert check(*pair, providers="cpu").outcome == "different"
    assert check(*pair, providers="cpu", atol=1e-3).equivalent


def test_parts_that_are_too_large_are_named() -> None:
    """Nothing between the ends is the same in both, so that there is one part of many nodes."""
    first = "".join(f"v{i + 1} = Sin(v{i}) " for i in range(60)).replace("v0", "x").replace("v60", "y")
    pair = model(first), model("n = Neg(x) " + first.replace("(x)", "(n)").replace("y = ", "z = ") + "y = Neg(z)")
    verdict = check(*pair, providers="cpu")
    assert verdict.outcome == "equivalent"
    assert any("nodes of both models make it, which are too many" in note for note in verdict.notes), verdict.notes
    filled = "l = Shape(x) f = ConstantOfShape<value = float[1] {{{}}}>(l) h = Add(x, f) "
    masked = first.replace("(x)", "(h)").replace("y = ", "z = ") + "y = Mul(z, zero)"
    hidden = [filled.format(number) + masked for number in (1, 2)]
    verdict = check(*map(model, hidden), providers="cpu")
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons[0].startswith("'f' (ConstantOfShape) is another value in both models")


OLD_ROOT = ROOT.replace('"": 18', '"": 17')


def test_another_op_in_a_part_that_is_too_large() -> None:
    """Its value is another one for the same inputs, which the nodes behind it hide."""
    chain = "".join(f"r{number + 1} = Sin(r{number}) " for number in range(50))
    pair = (model(f"r0 = {op}(x, half) {chain} t = Mul(r50, little) y = Add(t, x)") for op in ("Mul", "Add"))
    verdict = check(*pair, providers="cpu")
    assert verdict.outcome == "inconclusive"
    assert any("'r0' (Mul) is another value in both models" in reason for reason in verdict.reasons)


def test_a_local_function_of_another_opset() -> None:
    """It cannot be inlined, and counts as a node that may mean something else."""
    body = DENSE + "z = local.Root(a) y = Neg(z)"
    first, second, again = (model(body, OLD_ROOT.format(e)) for e in ("1e-7", "1e-9", "1e-7"))
    verdict = check(first, second, providers="cpu")
    assert not verdict.equivalent
    assert any("(local.Root)" in reason for reason in verdict.reasons)
    other = model(DENSE + "n = Neg(a) m = Neg(n) z = local.Root(m) y = Neg(z)", OLD_ROOT.format("1e-7"))
    for pair in ((first, again), (first, other)):
        assert check(*pair, providers="cpu").equivalent


def test_an_op_that_means_something_else_in_another_opset() -> None:
    """Softmax coerced its input to two dimensions up to opset 12; here its result is chosen where sums are large."""
    body = "p = Softmax<axis = 1>(x) s = ReduceSum<keepdims = 1>(x) g = Greater(s, limit) y = Where(g, p, x)"
    first, second = (
        net("float[N, 2, 8] x", "float[N, 2, 8] y", body, "float limit = {200}", opset=opset) for opset in (12, 13)
    )
    verdict = check(first, second, providers="cpu")
    assert not verdict.equivalent
    assert any("'p' (Softmax) is not made in the same way" in reason for reason in verdict.reasons) or (
        verdict.outcome == "different"
    )


def test_rows_of_a_mask_that_are_all_false() -> None:
    inputs, weights = "float[N, 16] x, bool[N, 16] k", "float none = {-1e30}, float little = {-10000}"
    first = net(inputs, "float[N, 16] y", "f = Where(k, x, none) p = Softmax(f) y = Neg(p)", weights)
    added = "n = Not(k) c = Cast<to = 1>(n) b = Mul(c, little) f = Add(x, b) p = Softmax(f) y = Neg(p)"
    verdict = check(first, net(inputs, "float[N, 16] y", added, weights), providers="cpu")
    assert not verdict.equivalent


@pytest.mark.parametrize("size", [20, 100])
def test_a_size_that_only_one_model_names(size: int) -> None:
    weights = f"int64[1] start = {{0}}, int64[1] end = {{{size}}}"
    first = net("float[N, 8] x", "float[M, 8] y", "h = Sin(x) y = Slice(h, start, end)", weights)
    verdict = check(first, net("float[N, 8] x", "float[M, 8] y", "y = Sin(x)"), providers="cpu")
    assert verdict.outcome == "different"
    assert any(f"open dimensions {size + 1}" in reason for reason in verdict.reasons)


def folded(wrong: int | None, index: str = "int64[N, 8] x", result: str = "float[N, 8, 4] y") -> tuple[ModelProto, ...]:
    """A table that is scaled, and one in which the scale is; of that, one row is not right."""
    table = np.random.default_rng(0).standard_normal((6000, 4)).astype(np.float32)
    scaled = 4 * table
    if wrong is not None:
        scaled[wrong, 2] += 1
    before = net(index, result, "e = Gather(w, x) s = Mul(e, four) y = Sin(s)", NUMBERS)
    after = net(index, result, "s = Gather(ws, x) y = Sin(s)")
    for model, name, value in ((before, "w", table), (after, "ws", scaled)):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return before, after


def test_every_row_of_a_table_is_tried() -> None:
    assert check(*folded(None), providers=["cpu"]).outcome == "equivalent"
    for wrong in (5, 4095, 4097, 5999):
        assert check(*folded(wrong), providers=["cpu"]).outcome == "inconclusive", wrong
    single = "int64 x", "float[4] y"
    assert check(*folded(None, *single), providers=["cpu"]).outcome == "equivalent"
    assert check(*folded(4097, *single), providers=["cpu"]).outcome == "inconclusive"


def test_parts_keep_within_limits_that_are_given() -> None:
    pair = model("a = Abs(x) y = Mul(a, two)"), model("y = Mul(x, two)")
    assert not check(*pair, providers="cpu").equivalent
    assert check(*pair, providers="cpu", val_range=(0, 1)).equivalent
