"""Which sets of inputs a check runs on: seeds, given sets, limits, and the stock for what those do not reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto

from onnxact.check.conditions import thresholds
from onnxact.check.drawing import FREE, as_limits, moved, parse_val_range, ranged_values, rounded_within
from onnxact.check.feeding import Feeding, Recipe, find_feeds, make_recipe
from onnxact.check.further import further_feeds
from onnxact.check.inputs import Feed
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.sizes import DEFAULT
from onnxact.check.subject import open_subject
from onnxact.errors import UsageError
from tests.check.models import RELU, net, unary


def opened(model: ModelProto) -> Session:
    session = open_session(open_subject(model), "cpu", optimise=False, threads=1)
    assert isinstance(session, Session), session
    return session


def fed(model: ModelProto, **options: Any) -> Feeding:
    return find_feeds(recipe(model, **options), opened(model))


def recipe(model: ModelProto, **options: Any) -> Recipe:
    return make_recipe(model, **{"seeds": (0, 1), "input_shapes": {}, "inputs": {}, "val_range": None, **options})


def test_one_set_a_seed_and_what_is_assumed_is_said() -> None:
    found = fed(unary(RELU), seeds=(5, 6, 7))
    assert [feed.label for feed in found.feeds] == ["seed 5", "seed 6", "seed 7"]
    assert found.assumed == ("shapes assumed for open dimensions: x [2, 8], then x [3, 8]",)


def test_given_sets_are_run_as_they_are() -> None:
    model = unary(RELU, shape="1, 2")
    one, two = np.array([[1, 2]], np.float32), np.array([[np.nan, -np.inf]], np.float32)
    assert [feed.label for feed in fed(model, inputs={"x": one}).feeds] == ["given inputs"]
    several = fed(model, inputs=[{"x": one}, Feed("seed 3 times 10", {"x": two})])
    assert [feed.label for feed in several.feeds] == ["given inputs 1", "seed 3 times 10"]
    assert several.feeds[1].values["x"] is two
    assert several.assumed == ("input x as given holds 1 NaN and 1 infinite of 2 values (seed 3 times 10)",)
    assert list(further_feeds(recipe(model, inputs={"x": one}), DEFAULT)) == []


def test_seeds_that_make_nothing_are_said() -> None:
    model = unary(RELU, shape="1, 2")
    one = {"x": np.array([[1, 2]], np.float32)}
    said = "3 seeds make no further sets of inputs, since all inputs are given"
    assert fed(model, inputs=one, seeds=(7, 8, 9)).assumed == (said,)
    assert fed(model, inputs=one).assumed == ()
    assert fed(model, inputs=one, seeds=(7,)).assumed == ()


def test_what_is_not_given_is_made_up_and_said() -> None:
    model = net("float[2] x, float[2] w", "float[2] y", "y = Mul(x, w)")
    found = fed(model, inputs={"w": np.zeros(2, np.float32)})
    assert [feed.label for feed in found.feeds] == ["seed 0", "seed 1"]
    assert found.assumed == ("made up, since they were not given: x",)
    for feed in further_feeds(recipe(model, inputs={"w": np.zeros(2, np.float32)}), DEFAULT):
        assert not feed.values["w"].any()


def test_contradictions_and_empty_values_are_said() -> None:
    model = net("float[N] x, float[N] w", "float y", "y = Concat<axis = 0>(x, w)")
    given = {"x": np.ones(2, np.float32), "w": np.ones(0, np.float32)}
    assert fed(model, inputs=given).assumed == (
        "input w as given holds no element (shape [0])",
        "dimension N is 2 in x and 0 in w",
    )


def test_a_model_without_inputs_has_one_empty_set() -> None:
    model = net("", "float y", "y = Constant<value_float = 1.0>()")
    assert [dict(feed.values) for feed in fed(model).feeds] == [{}]


def test_further_feeds_are_other_seeds_signs_and_magnitudes() -> None:
    model = net("float[64] x, int64[2] s", "float[a, b] y", "y = Reshape(x, s)")
    feeds = list(further_feeds(recipe(model), DEFAULT))
    labels = [feed.label for feed in feeds]
    assert labels[:2] == ["seed 2", "seed 3"]
    assert "seed 0 times -1" in labels
    assert "seed 1 plus -3" in labels
    assert len(set(labels)) == len(labels)
    by_label = {feed.label: feed.values for feed in feeds}
    plain = fed(model).feeds[0].values
    assert np.array_equal(by_label["seed 0 times -1"]["x"], -plain["x"])
    assert all(list(values["s"]) == [-1, 1] for values in by_label.values())


def runs_into(model: ModelProto, output: str, feeds: Iterable[Feed]) -> set[float]:
    session = opened(model)
    found: set[float] = set()
    for feed in feeds:
        result = run_session(session, feed.values)
        assert not isinstance(result, RunFailure), result
        found.add(float(np.ravel(result[output])[0]))
    return found


@pytest.mark.parametrize(
    ("inputs", "condition"),
    [
        ("float[64] x", "m = ReduceMean<keepdims = 0>(x) c = Greater(m, k) "),
        ("float[64] x", "m = ReduceMean<keepdims = 0>(x) d = Less(m, k) c = Not(d)"),
        ("float[64] x", "m = ReduceSum<keepdims = 0>(x) c = Less(m, k)"),
        (
            "float[64] x, bool p, bool q",
            "m = ReduceMean<keepdims = 0>(x) d = Greater(m, k) e = And(p, q) c = And(d, e)",
        ),
        ("float[N] x", "s = Shape(x) z = Squeeze(s) f = Cast<to = 1>(z) c = Greater(f, k)"),
    ],
)
def test_both_branches_of_a_condition_are_searched(inputs: str, condition: str) -> None:
    body = f"""{condition}
        y = If (c) <
            then_branch = yes () => (float a) {{ a = Constant<value_float = 1.0>() }},
            else_branch = no () => (float b) {{ b = Constant<value_float = 0.0>() }}
        >
    """
    model = net(inputs, "float y", body, "float k = {700}")
    feeds = [*fed(model).feeds, *further_feeds(recipe(model), DEFAULT)]
    assert runs_into(model, "y", feeds) == {0.0, 1.0}


def test_thresholds() -> None:
    body = """
        m = ReduceMean<keepdims = 0>(x) c = Greater(m, k) s = Shape(x) z = Squeeze(s) d = Equal(z, n) e = And(c, d)
        o = Less(m, unused)
        y = If (e) <
            then_branch = yes () => (float a) { a = Constant<value_float = 1.0>() },
            else_branch = no () => (float b) { b = Constant<value_float = 0.0>() }
        >
    """
    found = thresholds(net("float[N] x", "float y", body, "float k = {5}, int64 n = {9}, float unused = {3}"))
    assert (set(found.shifts), set(found.sizes)) == ({10.0, 0.0, 5.0}, {8, 9, 10})
    assert thresholds(unary(RELU)).shifts == ()


# Limits.


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0), (-3.0, -2.0), (5.0, 5.0), (-1e308, 1e308)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_values_stay_within_their_limits(low: float, high: float, dtype: Any) -> None:
    values = ranged_values(np.random.default_rng(0), (500,), dtype, low, high)
    wide = values.astype(np.float64)
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    assert values.dtype == dtype
    assert (wide.min(), wide.max()) == (max(low, -largest), min(high, largest))
    assert len(np.unique(wide)) > (40 if low < high else 0)


def test_limits_that_the_dtype_rounds_out_of() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16):
        values = rounded_within(np.array([0.1, 0.15, 0.2]), dtype, 0.1, 0.2).astype(np.float64)
        assert 0.1 <= values.min() <= values.max() <= 0.2


def test_limits_hold_for_made_and_varied_inputs() -> None:
    model = net("float[99] x, uint8[99] p, int64[99] i, bool b", "float y", "y = Identity(x)")
    limits = {"": (2.0, 7.5), "x": (-0.5, 4.0)}
    feeds = [*fed(model, val_range=limits).feeds, *further_feeds(recipe(model, val_range=limits), DEFAULT)]
    assert len({float(feed.values["x"][0]) for feed in feeds}) > 5
    for feed in feeds:
        for name, low, high in (("x", -0.5, 4.0), ("p", 2, 7), ("i", 2, 7)):
            assert low <= feed.values[name].min()
            assert feed.values[name].max() <= high


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["-1,1"], {"": (-1.0, 1.0)}),
        (["x:0, 255", "[-1,1]"], {"x": (0.0, 255.0), "": (-1.0, 1.0)}),
        (["inp0:[2,50]", "a:0:[3.0,4.6]"], {"inp0": (2.0, 50.0), "a:0": (3.0, 4.6)}),
        (["x:1e-3,1e3"], {"x": (0.001, 1000.0)}),
    ],
)
def test_parse_val_range(texts: list[str], expected: dict[str, tuple[float, float]]) -> None:
    assert parse_val_range(texts) == expected


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["1"], "expected LOW,HIGH or NAME:LOW,HIGH"),
        (["1,2,3"], "expected LOW,HIGH"),
        (["x:a,b"], "expected LOW,HIGH"),
        (["2,1"], "not two finite numbers"),
        (["0,inf"], "not two finite numbers"),
        (["nan,1"], "not two finite numbers"),
        ([":0,1"], "a name before the colon is missing"),
        (["x:0,1", "x:0,2"], "x is given twice"),
        (["0,1", "0,2"], "given twice"),
        ([""], "expected LOW,HIGH"),
    ],
)
def test_parse_val_range_refuses(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_val_range(texts)


def test_limits_that_do_not_fit() -> None:
    model = net("float[2] x, int64[2] i, string[2] s, bool b", "float y", "y = Identity(x)")
    for limits, words in (
        ({"z": (0.0, 1.0)}, "no input z"),
        ({"i": (0.2, 0.8)}, "value range of i: no whole number"),
        ({"s": (0.0, 1.0)}, "value range of s: it is of type string"),
    ):
        with pytest.raises(UsageError, match=words):
            fed(model, val_range=limits)
    with pytest.raises(UsageError, match="is not two numbers"):
        as_limits({"x": (1.0,)})  # type: ignore[dict-item]
    assert as_limits(None) is FREE
    assert all(feed.values["b"] for feed in fed(model, val_range={"b": (1, 1)}).feeds)


def test_moved_keeps_the_dtype() -> None:
    values = np.array([60000.0, -2.0], np.float16)
    assert moved(values, 2.0, 0.0).dtype == np.float16
    assert np.isinf(moved(values, 2.0, 0.0)[0])
    assert list(moved(values, 0.5, 1.0, (0.0, 100.0))) == [100.0, 0.0]


@pytest.mark.parametrize(("count", "sets"), [(1, 2), (2, 4), (3, 8), (6, 10)])
def test_truth_values_are_fed_in_all_combinations_of_a_few(count: int, sets: int) -> None:
    names = [f"b{number}" for number in range(count)]
    model = net(", ".join(f"bool {name}" for name in names), "bool y", "y = Not(b0)")
    feeds = fed(model).feeds
    found = {tuple(bool(feed.values[name]) for name in names) for feed in feeds}
    assert len(found) == len(feeds) == sets


def shapes(model: ModelProto, **options: Any) -> list[dict[str, tuple[int, ...]]]:
    return [{name: value.shape for name, value in feed.values.items()} for feed in fed(model, **options).feeds]


def test_each_symbol_has_a_size_of_its_own_and_another_one_later() -> None:
    model = net("float[N, C] x, float[C, M] z", "float[N, M] y", "y = MatMul(x, z)")
    first, second = shapes(model)
    assert (first, second) == ({"x": (2, 3), "z": (3, 4)}, {"x": (7, 6), "z": (6, 5)})
    assert shapes(model, input_shapes={"x": (5, 9)}) == [{"x": (5, 9), "z": (9, 2)}, {"x": (5, 9), "z": (9, 3)}]
    assert shapes(model, inputs={"z": np.zeros((3, 3), np.float32)})[0] == {"x": (2, 3), "z": (3, 3)}


@pytest.mark.parametrize(
    ("inputs", "body", "expected"),
    [
        ("float[N] x, float[M] z", "y = Add(x, z)", [{"x": (2,), "z": (2,)}, {"x": (3,), "z": (3,)}]),
        ("float[?, 8] x, float[?, 8] z", "y = Add(x, z)", [{"x": (2, 8), "z": (2, 8)}, {"x": (3, 8), "z": (3, 8)}]),
        ("float[?] x, float[?] z", "y = Concat<axis = 0>(x, z)", [{"x": (2,), "z": (3,)}, {"x": (5,), "z": (4,)}]),
        ("float[N] x", "s = Constant<value_ints = [1, 2]>() y = Reshape(x, s)", [{"x": (2,)}] * 2),
        ("float[N, 16] x", "s = Constant<value_ints = [1, 16]>() y = Reshape(x, s)", [{"x": (1, 16)}] * 2),
    ],
)
def test_sizes_are_what_the_model_takes(inputs: str, body: str, expected: list[dict[str, tuple[int, ...]]]) -> None:
    assert shapes(net(inputs, "float[K] y" if "Reshape" not in body else "float[K, L] y", body)) == expected


def test_images_stay_of_sizes_that_networks_halve() -> None:
    model = net("float[N, 1, H, W] x", "float[N, 64, P, Q] y", "y = SpaceToDepth<blocksize = 8>(x)")
    first, second = shapes(model)
    assert all(size % 8 == 0 for found in (first, second) for size in found["x"][2:])
    assert first["x"] != second["x"]
    assert max(*first["x"], *second["x"]) <= 64


def test_large_integers_that_a_model_does_not_take_are_given_up() -> None:
    model = net("int64[4] x", "float y", "i = Sin(f) y = Squeeze(i)", "float f = {1}")
    assert np.abs(fed(model).feeds[1].values["x"]).max() > 2
    table = "float[5, 4] table = {" + ", ".join("0" for _ in range(20)) + "}, int64 one = {1}"
    wrapped = net("int64[64] x", "float[64, 4] y", "n = Neg(x) m = Neg(n) y = Gather(table, m)", table)
    assert fed(wrapped).feeds[1].values["x"].max() <= 2


def test_large_images_come_one_at_a_time_first() -> None:
    body = "k = ConstantOfShape(s) r = MatMul(x, k) y = MatMul(k, r)"
    model = net("float[N, 1, H, W] x", "float[N, 1, H, W] y", body, "int64[2] s = {64, 64}")
    assert [found["x"] for found in shapes(model)] == [(1, 1, 64, 64), (2, 1, 64, 64)]
