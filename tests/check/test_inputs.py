"""make_inputs, ranges, shapes: what is fed to a model."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from onnxact.check import NoInputError, make_inputs, parse_shapes, run
from onnxact.check.ranges import UNLIMITED, Range, integer_range
from onnxact.check.sizes import Guess
from onnxact.errors import UsageError
from tests.check.models import net, unary

LOOP = "body = b (int64 i, bool k, float[2] a) => (bool k2, float[2] d) { k2 = Identity(k) d = Identity(a) }"
FLOAT_TABLE = ", ".join("0" for _ in range(20))


def gather(inputs: str, body: str, weights: str = "") -> ModelProto:
    """A model whose `table` [5, 4] is gathered from by what `body` calls i."""
    table = f"float[5, 4] table = {{{FLOAT_TABLE}}}" + (f", {weights}" if weights else "")
    return net(inputs, "float y", f"{body} y = Gather(table, i)", table)


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16", "double"])
def test_floats_have_both_signs_many_magnitudes_and_zeros(dtype: str) -> None:
    values = make_inputs(unary("y = Identity(x)", dtype=dtype, shape="64, 64"), seed=0)["x"].astype(np.float64)
    assert np.count_nonzero(values < 0) > 1500
    assert np.count_nonzero(values > 0) > 1500
    assert np.count_nonzero(values == 0) > 20
    assert not np.signbit(values[values == 0]).any()
    magnitude = np.abs(values[values != 0])
    assert np.count_nonzero(magnitude < 0.01) > 300
    assert np.count_nonzero(magnitude > 5) > 100
    assert 10 < magnitude.max() <= 11


def test_same_seed_same_values() -> None:
    model = unary("y = Identity(x)")
    first, again, other = (make_inputs(model, seed=seed)["x"] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_initializers_are_not_fed_unless_given() -> None:
    model = net("float[2] x, float[2] w", "float[2] y", "y = Mul(x, w)", "float[2] w = {1, 2}")
    assert list(make_inputs(model, seed=0)) == ["x"]
    weights = np.ones(2, np.float32)
    assert make_inputs(model, seed=0, given={"w": weights})["w"] is weights


def test_symbols_are_consistent_and_never_zero() -> None:
    model = net("float[N, C] x, float[C, N, M] z, float[?] u", "float y", "y = Identity(x)")
    made = make_inputs(model, seed=0, input_shapes={"z": (5, 3, 2)})
    assert made["x"].shape == (3, 5)
    assert {name: value.shape for name, value in make_inputs(model, seed=0).items()} == {
        "x": (2, 2),
        "z": (2, 2, 2),
        "u": (2,),
    }
    assert make_inputs(model, seed=0, given={"x": np.ones((7, 4), np.float32)})["z"].shape == (4, 7, 2)


def test_symbols_that_are_sums_of_symbols() -> None:
    model = net("float[past, 1] p, float[seq, 1] s", "float y", "y = Identity(p)")
    for text in ("past+seq", "2*seq + past"):
        value = helper.make_tensor_value_info("m", TensorProto.FLOAT, [text])
        del model.graph.input[2:]
        model.graph.input.append(value)
        sizes = {"p": (3, 1), "s": (5, 1)}
        expected = {"past+seq": 8, "2*seq + past": 13}[text]
        assert make_inputs(model, seed=0, input_shapes=sizes)["m"].shape == (expected,)


def test_unknown_rank_takes_the_guess() -> None:
    model = net("float[] s", "float y", "y = Identity(s)")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert make_inputs(model, seed=0)["s"].shape == (2, 3)
    assert make_inputs(model, seed=0, guess=Guess(1, 1, (4,)))["s"].shape == (4,)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (gather("int64[3] x", "i = Identity(x)"), Range(-5, 4)),
        (gather("int32[3] x", "c = Cast<to = 7>(x) i = Unsqueeze(c, a)", "int64[1] a = {0}"), Range(-5, 4)),
        (gather("int64[3] x", "i = Add(x, two)", "int64 two = {2}"), Range(-7, 2)),
        (gather("int64[3] x", "i = Sub(x, two)", "int64 two = {2}"), Range(-3, 6)),
        (gather("int64[3] x", "i = Concat<axis = 0>(x, two)", "int64[1] two = {2}"), Range(-5, 4)),
        (net("int64[3] x, float[4, 6] d", "float y", "y = Gather<axis = 1>(d, x)"), Range(-6, 5)),
        (net("int64[3] x, float[A, B] d", "float y", "y = Gather(d, x)"), Range(-2, 1)),
        (net("int64[3] x", "int64 y", "y = OneHot(x, n, v)", "int64 n = {7}, int64[2] v = {0, 1}"), Range(-7, 6)),
        (net("float[9, 2] d, int64[2] x", "float y", "y = ReverseSequence(d, x)"), Range(1, 9)),
        (net("float[9, 2] d, int64[1] x", "float y", "y, i = TopK<axis = 0>(d, x)"), Range(1, 9)),
        (net("float[2, 7] s, int64[2] x", "float y", "y = SoftmaxCrossEntropyLoss(s, x)"), Range(0, 6)),
        (net("int64 x, bool c, float[2] v", "float y", f"y = Loop(x, c, v) <{LOOP}>"), Range(1, 2)),
        (net("int64[3] x", "bool y", "k = Constant<value_int = 7>() y = Equal(x, k)"), Range(choices=(7,))),
        (net("int64[3] x", "bool y", "y = Equal(x, k)", "int64 k = {7}"), Range(choices=(7,))),
        (net("int64[3] x", "float y", "y = Cast<to = 1>(x)"), Range()),
    ],
)
def test_integer_ranges(model: ModelProto, expected: Range) -> None:
    assert integer_range(model, "x") == expected


def test_integer_range_through_bodies_and_functions() -> None:
    body = """
        y = If (c) <
            then_branch = yes () => (float a) { a = Gather(table, x) },
            else_branch = no () => (float b) { b = Gather(table, x) }
        >
    """
    model = net("int64[3] x, bool c", "float y", body, f"float[5, 4] table = {{{FLOAT_TABLE}}}")
    assert integer_range(model, "x") == Range(-5, 4)
    function = '<domain: "local", opset_import: ["" : 18]> look (t, i) => (o) { j = Identity(i) o = Gather(t, j) }'
    table = f"float[5, 4] table = {{{FLOAT_TABLE}}}"
    called = net("int64[3] x", "float y", "y = local.look(table, x)", table, functions=function)
    assert integer_range(called, "x") == Range(-5, 4)


def test_integer_range_out_of_bodies_and_functions() -> None:
    body = """
        i = If (c) <
            then_branch = yes () => (int64[3] a) { a = Identity(x) },
            else_branch = no () => (int64[3] b) { two = Constant<value_int = 2>() b = Add(x, two) }
        >
    """
    assert integer_range(gather("int64[3] x, bool c", body), "x").high in (2, 4)
    function = (
        '<domain: "local", opset_import: ["" : 18]> plus (t) => (o) { k = Constant<value_int=3>() o = Add(t, k) }'
    )
    table = f"float[5, 4] table = {{{FLOAT_TABLE}}}"
    called = net("int64[3] x", "float y", "i = local.plus(x) y = Gather(table, i)", table, functions=function)
    assert integer_range(called, "x") == Range(-8, 1)
    carried = f"v = Loop(n, c, x) <{LOOP.replace('float', 'int64')}> y = Gather(table, v)"
    looped = net("int64[2] x, int64 n, bool c", "float y", carried, table)
    assert integer_range(looped, "x") == Range(-5, 4)


def test_integers_stay_in_their_range_and_take_compared_values() -> None:
    model = gather("int64[64] x", "i = Identity(x)")
    values = make_inputs(model, seed=1)["x"]
    assert (values.min(), values.max()) == (-5, 4)
    rate = net("int64 rate", "bool y", "y = Equal(rate, k)", "int64 k = {16000}")
    assert make_inputs(rate, seed=0)["rate"] == 16000
    assert make_inputs(rate, seed=1)["rate"] < 0
    pixels = make_inputs(net("uint8[64] x", "float y", "y = Cast<to = 1>(x)"), seed=0)["x"]
    assert pixels.max() > 200
    assert UNLIMITED > 2**31 - 1


def test_bools_go_through_their_combinations() -> None:
    model = net("bool a, bool b, bool c", "bool y", "y = Not(a)")
    made = [make_inputs(model, seed=seed) for seed in range(8)]
    assert len({tuple(bool(value) for value in values.values()) for values in made}) == 8
    assert [all(values.values()) for values in made[:2]] == [True, False]
    assert not any(made[1].values())


def test_an_optional_is_empty_only_where_the_model_asks() -> None:
    asked = net("optional(float[3]) o", "bool y", "y = OptionalHasElement(o)")
    needed = net("optional(float[3]) o", "float[3] y", "y = OptionalGetElement(o)")
    assert [make_inputs(asked, seed=seed)["o"] is None for seed in (0, 1)] == [False, True]
    assert all(make_inputs(needed, seed=seed)["o"] is not None for seed in (0, 1))


def test_variances_and_scales_are_positive() -> None:
    model = net(
        "float[2, 64] x, float[64] s, float[64] b, float[64] m, float[64] v",
        "float y",
        "y = BatchNormalization(x, s, b, m, v)",
    )
    made = make_inputs(model, seed=0)
    assert made["v"].min() > 0
    assert made["s"].min() < 0


def test_indices_follow_the_sizes_that_are_fed() -> None:
    model = net("int64[50] x, float[A, B] d", "float y", "y = Gather(d, x)")
    assert make_inputs(model, seed=1, input_shapes={"d": (1, 3)})["x"].max() == 0
    assert make_inputs(model, seed=1, input_shapes={"d": (9, 3)})["x"].max() == 8


def test_bools_strings_sequences_and_optionals() -> None:
    model = net("bool c, bool[64] m, string[5] s, seq(float[3]) q, optional(float[3]) o", "bool y", "y = Not(c)")
    even, odd = (make_inputs(model, seed=seed) for seed in (0, 1))
    assert (bool(even["c"]), bool(odd["c"])) == (True, False)
    assert even["m"].any()
    assert not even["m"].all()
    assert all(isinstance(word, str) for word in even["s"])
    assert [value.shape for value in even["q"]] == [(3,), (3,)]
    assert even["o"].shape == (3,)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT8E4M3FN, TensorProto.INT4, TensorProto.COMPLEX64])
def test_types_that_cannot_be_fed(dtype: int) -> None:
    model = unary("y = Identity(x)")
    model.graph.input[0].type.tensor_type.elem_type = dtype
    with pytest.raises(NoInputError, match="input x is of type"):
        make_inputs(model, seed=0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"input_shapes": {"z": (1,)}}, "no input z; its inputs: x"),
        ({"given": {"z": np.ones(1)}}, "no input z"),
        ({"input_shapes": {"x": (2, 9)}}, r"shape \[2, 9\] does not fit, the model declares \[N, 8\]"),
        ({"input_shapes": {"x": (2,)}}, "does not fit"),
        ({"given": {"x": np.ones((2, 8))}}, "float64 given, the model takes float32"),
        ({"given": {"x": np.ones((2, 9), np.float32)}}, "does not fit"),
        ({"given": {"x": [1.0, 2.0]}}, r"a list given, the model takes an array \(float\)"),
        ({"given": {"x": None}}, "None given"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make_inputs(unary("y = Identity(x)"), seed=0, **options)


def test_given_values_are_taken_as_runtimes_take_them() -> None:
    words = net("string[2] s, float a, bfloat16[2] h, seq(float[2]) q, optional(float) o", "float y", "y = Identity(a)")
    half = np.array([1.5, -2], ml_dtypes.bfloat16)
    given = {
        "s": np.array(["a", "bc"]),
        "a": np.float32(2),
        "h": half.view("V2"),
        "q": (np.ones(2, np.float32),),
        "o": None,
    }
    made = make_inputs(words, seed=0, given=given)
    assert (made["s"].dtype, list(made["s"])) == (np.dtype(object), ["a", "bc"])
    assert (made["a"].shape, made["h"].dtype) == ((), half.dtype)
    assert np.array_equal(made["h"], half)
    assert made["o"] is None
    with pytest.raises(UsageError, match=r"input q\[0\]: shape \[3\] does not fit"):
        make_inputs(words, seed=0, given={"q": [np.ones(3, np.float32)]})
    with pytest.raises(UsageError, match="the model takes a list"):
        make_inputs(words, seed=0, given={"q": np.ones(2, np.float32)})
    with pytest.raises(UsageError, match="input s: int64 given, the model takes strings"):
        make_inputs(words, seed=0, given={"s": np.arange(2)})


def test_parse_shapes() -> None:
    assert parse_shapes(["x:1,3,224,224", "input:0:2, 8", "n:"]) == {"x": (1, 3, 224, 224), "input:0": (2, 8), "n": ()}


@pytest.mark.parametrize("text", ["x", ":1,2", "x:1,,2", "x:0,2", "x:-1", "x:a", "x:1.5"])
def test_parse_shapes_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="input shape"):
        parse_shapes([text])
    with pytest.raises(UsageError, match="twice"):
        parse_shapes(["x:1", "x:2"])


def test_made_inputs_run() -> None:
    model = gather("int32[N] x", "i = Cast<to = 7>(x)")
    result = run(model, make_inputs(model, seed=0))
    assert isinstance(result, dict)
    assert result["y"].shape == (2, 4)


# Integers that no reader limits, and truth values.


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint16", "uint32", "uint64"])
def test_integers_have_both_signs_and_all_magnitudes(dtype: str) -> None:
    model = unary("y = Identity(x)", dtype=dtype, shape="64, 64")
    modest, wide = (make_inputs(model, seed=seed)["x"] for seed in (0, 1))
    largest = np.iinfo(dtype).max
    signed = np.iinfo(dtype).min < 0
    assert (int(modest.min()), int(modest.max())) == (-100 if signed else 0, 100)
    assert (int(wide.min()), int(wide.max())) == (-largest if signed else 0, largest)
    assert (np.count_nonzero(modest < 0) > 500) == signed
    assert np.count_nonzero(modest == 0) > 300
    assert np.count_nonzero((wide > 100) & (wide < largest // 10)) > 100
    single = net(f"{dtype} x", f"{dtype} y", "y = Identity(x)")
    assert [int(make_inputs(single, seed=seed)["x"]) for seed in (1, 5)] != [0, 0]
    assert (make_inputs(single, seed=1)["x"] < 0) == signed
    assert make_inputs(single, seed=3)["x"] >= 0


@pytest.mark.parametrize(
    "body",
    [
        "two = Constant<value_int = 2>() m = Mul(x, two) y = Range(zero, m, one)",
        "t = Loop(, yes, zero) <body = b (int64 i, bool k, int64 a) => (bool k2, int64 d) "
        "{ d = Add(a, one) k2 = Less(d, x) }> y = Identity(t)",
        "o = Unsqueeze(x, axes) t = Loop(, yes, o) <body = b (int64 i, bool k, int64[1] a) => (bool k2, int64[1] d) "
        "{ d = Add(a, one) l = Less(d, i) k2 = Squeeze(l) }> y = Identity(t)",
        "s = Abs(x) t = Unsqueeze(s, axes) y = ConstantOfShape(t)",
        "y = local.f(x)",
    ],
)
def test_integers_that_decide_how_much_is_computed_stay_small(body: str) -> None:
    function = '<domain: "local", opset_import: ["" : 18]> f (n) => (o) { m = Add(n, n) o = HannWindow(m) }'
    weights = "int64 zero = {0}, int64 one = {1}, bool yes = {1}, int64[1] axes = {0}"
    model = net("int64 x", "float y", body, weights, functions=function)
    assert all(0 <= int(make_inputs(model, seed=seed)["x"]) <= 2 for seed in range(8))


def test_indices_count_from_the_end_where_they_may() -> None:
    for op, expected in (("GatherElements", -5), ("GatherND", -4), ("ScatterND", 0)):
        updates = ", u" if op == "ScatterND" else ""
        table = f"float[5, 4] table = {{{FLOAT_TABLE}}}, float[64] u = {{{', '.join('0' for _ in range(64))}}}"
        model = net("int64[64, 2] x", "float y", f"y = {op}(table, x{updates})", table)
        assert make_inputs(model, seed=0)["x"].min() == expected
    old = gather("int64[64] x", "i = Identity(x)")
    old.opset_import[0].version = 10
    assert make_inputs(old, seed=0)["x"].min() == 0
    embedded = net(
        "int64[64] x", "float y", "e = Gather(table, x) y = Add(e, e)", f"float[5, 4] table={{{FLOAT_TABLE}}}"
    )
    assert make_inputs(embedded, seed=0)["x"].min() == 0


def test_stored_truth_values_that_may_be_overridden_are() -> None:
    model = net("float[2] x, bool t", "float[2] y", "n = Neg(x) y = Where(t, x, n)", "bool t = {1}")
    assert [make_inputs(model, seed=seed).get("t") for seed in (0, 1)] == [None, False]
    assert make_inputs(model, seed=1, given={"t": np.array(True)})["t"]
    model.ir_version = 3
    assert "t" not in make_inputs(model, seed=1)


def test_training_is_tried_both_ways() -> None:
    model = net("float[2] x, bool t", "float[2] y", "r = Constant<value_float = 0.5>() y = Dropout(x, r, t)")
    assert [bool(make_inputs(model, seed=seed)["t"]) for seed in (0, 1)] == [False, True]
