"""judge: what a site may give, in every dtype, and above all what it may not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS, FALSE
from onnxact.activation.numeric import FLOATS, evaluate, rounded
from onnxact.check.accuracy import _points, described, judge, merged
from onnxact.check.allowance import Points, judge_exact, judge_points
from onnxact.check.site_evidence import Computed, Meaning, Slopes
from onnxact.check.standard import Standard, held_numbers
from tests.activation.cases import DTYPES, EVERY_INSTANCE, Instance, all_patterns, parameters_of, signed_log, wanted

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # signalling NaNs
INF = math.inf


def leaky(alpha: float, form: str = "op", dtype: str = "float32") -> Meaning:
    return Meaning("leaky_relu", form, (("alpha", alpha),), dtype)


def own(meaning: Meaning, **options: Any) -> Standard:
    return Standard(meaning, meaning, **options)


def sloped(x: Any, slope: Any) -> Any:
    return np.where(x < 0, np.asarray(slope, x.dtype) * x, x)


X = np.random.default_rng(0).standard_normal((4, 3, 50)).astype(np.float32)


# What is right.


# noisy_relu is random; clip6 divides by 6, whatever the slope of float32 that stands for 1/6.
CASES = [
    pytest.param(case.values[0], dtype, id=f"{case.id}-{dtype}")
    for case in EVERY_INSTANCE
    for dtype in DTYPES
    if "noisy_relu" not in str(case.id) and (dtype != "float64" or "hard_sigmoid-clip6" not in str(case.id))
]


@pytest.mark.parametrize(("instance", "dtype"), CASES)
def test_what_a_form_computes_is_within_its_bound(instance: Instance, dtype: str) -> None:
    """Every form, NaN, infinities, zeros, subnormals and the largest numbers included."""
    points = np.concatenate(
        [all_patterns(dtype, 3000)[:: 8 if dtype in ("float16", "bfloat16") else 1], signed_log(dtype)]
    )
    computed = evaluate(instance.form.expr, points, instance.parameters)
    meaning = Meaning(instance.activation.name, instance.name, tuple(instance.parameters.items()), dtype)
    for on_its_own in (True, False):
        found = judge(own(meaning, on_its_own=on_its_own), points, computed)
        assert not found.is_outside, described(found)
        assert found.elements == points.size


ROUND_ONCE = [row for row in ACTIVATIONS.values() if any(form.exact is not FALSE for form in row.forms.values())]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "activation", [row for row in ROUND_ONCE if row.name != "noisy_relu"], ids=lambda row: row.name
)
def test_functions_that_round_once_are_right_in_their_own_dtype(activation: Any, dtype: str) -> None:
    """What judge evaluates first: the reference in float32 or float64, rounded to the dtype, is the reference rounded
    once. All values of 16 bits, a sample of the others.
    """
    points = all_patterns(dtype, 50_000)
    wide = points.astype(np.float32) if points.dtype.itemsize == 2 else points
    for parameters in parameters_of(activation):
        held = {name: rounded(value, points.dtype).astype(wide.dtype) for name, value in parameters.items()}
        with np.errstate(all="ignore"):
            got = np.asarray(activation.reference(wide, **held)).astype(points.dtype)
        expected = wanted(activation, points, parameters)
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        assert same.all(), np.stack([points, got, expected])[:, ~same].T[:5]


def test_a_correctly_rounded_site_is_within_one_roundoff() -> None:
    found = judge(own(leaky(0.2)), X, sloped(X, 0.2))
    assert (found.elements, found.compared, found.outside) == (X.size, X.size, 0)
    assert 0 < found.max_u <= 1
    assert found.x is not None
    assert found.x < 0


def test_slopes_by_channel_are_broadcast_right() -> None:
    slopes = np.array([0.1, 0.2, 0.3]).reshape(3, 1)
    meaning = Meaning("prelu", "op", (("slope", Slopes.of(slopes)),))
    right = judge(own(meaning), X, sloped(X, slopes), channel_axis=-2)
    assert not right.is_outside
    wrong = slopes.copy()
    wrong[1] += 1e-3
    found = judge(own(meaning), X, sloped(X, wrong), channel_axis=-2)
    assert found.is_outside
    assert found.channels == (1,)
    assert found.index[1] == 1
    assert "in channels 1" in described(found)


def test_parameters_that_the_model_computes() -> None:
    meaning = Meaning("prelu", "op", (("slope", Computed("s")),))
    values = {"s": np.array([0.5], np.float32)}
    assert not judge(own(meaning), X, sloped(X, 0.5), computed=values).is_outside
    assert judge(own(meaning), X, sloped(X, 0.6), computed=values).is_outside
    assert judge(own(meaning), X, sloped(X, 0.5)).problem == "a parameter of it is not known"


# What is wrong.


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("form", ["op", "mul-max", "where", "relu-neg", "mul-abs-add"])
def test_another_slope_by_a_thousandth(form: str, dtype: str) -> None:
    """Whatever the form: the model's form computes its own constants well, but not those of the function."""
    x = X.astype(FLOATS[dtype])
    expr = ACTIVATIONS["leaky_relu"].forms[form].expr
    y = evaluate(expr, x, {"alpha": 0.201})
    claimed = judge(Standard(leaky(0.2, "op", dtype), leaky(0.2, form, dtype)), x, y)
    recognised = judge(Standard(leaky(0.2, "op", dtype), leaky(0.201, form, dtype)), x, y)
    assert claimed.is_outside
    assert recognised.is_outside
    assert recognised.outside > X.size // 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_slope_in_a_form_that_is_none_of_the_table(dtype: str) -> None:
    x = X.astype(FLOATS[dtype])
    assert judge(Standard(leaky(0.2, "op", dtype), None), x, sloped(x, 0.201)).is_outside
    assert not judge(Standard(leaky(0.2, "op", dtype), None), x, sloped(x, 0.2)).is_outside


def test_max_for_min_and_a_slope_above_one() -> None:
    y = np.minimum(X, np.float32(0.2) * X)
    assert judge(Standard(leaky(0.2), None), X, y).is_outside
    y = np.maximum(X, np.float32(1.5) * X)
    assert judge(Standard(leaky(1.5), leaky(1.5, "mul-max")), X, y).is_outside


def test_one_element_among_many_is_found() -> None:
    x = np.random.default_rng(1).standard_normal(1 << 20).astype(np.float32)
    y = sloped(x, 0.2)
    y[777_777] = np.nextafter(np.nextafter(np.nextafter(y[777_777], np.float32(9)), np.float32(9)), np.float32(9))
    found = judge(own(leaky(0.2)), x, y)
    assert (found.outside, found.index, found.compared) == (1, (777_777,), x.size)
    y = np.float32(0.6) * x + np.float32(0.4) * np.abs(x)
    y[777_777] *= np.float32(1.5)
    found = judge(own(leaky(0.2, "mul-abs-add")), x, y)
    assert (found.outside, found.index) == (1, (777_777,))
    assert found.compared < x.size


def test_no_more_elements_are_outside_than_were_compared() -> None:
    x = np.random.default_rng(2).standard_normal(1 << 18).astype(np.float32)
    for thorough in (True, False):
        found = judge(Standard(leaky(0.2), None), x, np.minimum(x, np.float32(0.2) * x), thorough=thorough)
        assert 0 < found.outside <= found.compared <= found.elements


def test_the_worst_element_is_shown_with_all_that_belongs_to_it() -> None:
    y = sloped(X, 0.2)
    y[2, 1, 7] = 5.0
    found = judge(own(leaky(0.2)), X, y, inputs="seed 3")
    assert (found.outside, found.index, found.inputs) == (1, (2, 1, 7), "seed 3")
    assert (found.x, found.y) == (float(X[2, 1, 7]), 5.0)
    assert found.expected == pytest.approx(float(sloped(X, 0.2)[2, 1, 7]))
    assert found.allowed < 1e-6
    for words in ("[2, 1, 7]", "5 left it", "allowed"):
        assert words in described(found)


def test_another_shape_or_dtype() -> None:
    assert "expected float32[4, 3, 50]" in judge(own(leaky(0.2)), X, X[0]).problem
    found = judge(own(leaky(0.2)), X, X.astype(np.float64))
    assert found.is_outside
    assert "float64" in found.problem
    assert judge(own(leaky(0.2)), X[:0], X[:0]).elements == 0
    integers = np.arange(3)
    assert "no floating-point type" in judge(own(leaky(0.2)), integers, integers).problem


def test_the_form_that_loses_digits_is_outside_where_bits_have_to_be_kept() -> None:
    """(1 + a)/2 x + (1 - a)/2 |x| at a = 0.01 in float16: up to 7 % off, within its bound, and not what it replaces."""
    x = X.astype(np.float16)
    y = evaluate(ACTIVATIONS["leaky_relu"].forms["mul-abs-add"].expr, x, {"alpha": 0.01})
    meaning = leaky(0.01, "mul-abs-add", "float16")
    found = judge(own(meaning), x, y)
    assert not found.is_outside
    assert found.max_u > 50
    assert judge(own(meaning, exact=True), x, y).is_outside


# NaN, infinities, zeros.


SPECIAL = np.array([np.nan, INF, -INF, 0.0, -0.0], np.float32)


def test_special_values_of_the_function_are_required() -> None:
    right = np.array([np.nan, INF, -INF, 0.0, -0.0], np.float32)
    assert not judge(own(leaky(0.2), on_its_own=True), SPECIAL, right).is_outside
    for place, wrong in ((0, 0.0), (1, 3e38), (2, np.nan), (3, 1.0)):
        y = right.copy()
        y[place] = wrong
        found = judge(own(leaky(0.2), on_its_own=True), SPECIAL, y)
        assert (found.outside, found.index) == (1, (place,))


def test_what_a_form_declares_is_allowed_and_said() -> None:
    y = np.array([np.nan, INF, np.nan, 0.0, 0.0], np.float32)
    found = judge(own(leaky(0.2, "mul-abs-add"), on_its_own=True), SPECIAL, y)
    assert not found.is_outside
    assert "nan where f(-inf) is -inf, as its form declares" in found.declared
    assert "a zero of the other sign than f(x), which its form declares" in found.declared
    assert judge(own(leaky(0.2, "where"), on_its_own=True), SPECIAL, y).index == (2,)


def test_a_zero_of_the_other_sign_counts_where_no_form_declares_it() -> None:
    """ThresholdedRelu has one form with signs of zero of its own, and the op, which has none."""
    meaning = Meaning("thresholded_relu", "op", (("alpha", -1.0),))
    x = np.array([-0.0, 0.0], np.float32)
    assert not judge(own(meaning, on_its_own=True), x, x).is_outside
    found = judge(own(meaning, on_its_own=True), x, -x)
    assert found.outside == 2
    assert not judge(own(meaning), x, -x).is_outside
    declared = Meaning("thresholded_relu", "where", (("alpha", -1.0),))
    assert not judge(own(declared, on_its_own=True), x, -x).is_outside


def test_clip_without_a_bound_stops_at_the_largest_number() -> None:
    meaning = Meaning("clip", "op", (("min", -1.0), ("max", INF)))
    x, largest = np.array([INF, 5.0], np.float32), np.finfo(np.float32).max
    found = judge(own(meaning, on_its_own=True), x, np.array([largest, 5.0], np.float32))
    assert not found.is_outside
    assert "stops at the largest number" in found.declared[0]
    assert judge(own(meaning, on_its_own=True), x, np.array([largest, largest], np.float32)).is_outside


def test_overflow_on_the_way_is_the_forms_own() -> None:
    """(1 + a) x overflows before x does."""
    x = np.array([3e38], np.float32)
    meaning = leaky(1.5, "mul-abs-add")
    assert not judge(own(meaning), x, np.array([INF], np.float32)).is_outside
    assert judge(own(leaky(1.5, "where")), x, np.array([INF], np.float32)).is_outside


def test_subnormal_results_may_be_flushed_elsewhere_than_on_the_cpu() -> None:
    x = np.array([-1e-38], np.float32)
    zero = np.zeros(1, np.float32)
    assert judge(own(leaky(0.2)), x, zero).is_outside
    assert not judge(own(leaky(0.2), on_cpu=False), x, zero).is_outside


# Tolerance and sums.


def test_merged_keeps_the_worst() -> None:
    good = judge(own(leaky(0.2)), X, sloped(X, 0.2), inputs="seed 0")
    bad = judge(own(leaky(0.2)), X, sloped(X, 0.25), inputs="seed 1")
    for pair in ((good, bad), (bad, good)):
        found = merged(*pair)
        assert found is not None
        assert (found.elements, found.outside, found.inputs) == (2 * X.size, bad.outside, "seed 1")
    assert merged(None, good) == good
    assert merged(None, None) is None


def test_a_few_wrong_elements_are_found_among_many_that_deviate() -> None:
    """Below 0 the form is far from f(x), as its bound allows; a few results above 0 are off by 16 u."""
    form = ACTIVATIONS["leaky_relu"].forms["mul-abs-add"]
    meaning = Meaning("leaky_relu", "mul-abs-add", (("alpha", 0.01),))
    rng = np.random.default_rng(0)
    for count in (1, 4, 16):
        x = rng.standard_normal(200_000).astype(np.float32)
        y = evaluate(form.expr, x, {"alpha": 0.01}).astype(np.float32)
        assert judge(Standard(meaning, meaning), x, y).outside == 0
        y[rng.choice(np.flatnonzero(x > 0), count, replace=False)] *= np.float32(1 + 16 * 2**-24)
        assert judge(Standard(meaning, meaning), x, y).outside == count


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "prelu", "thresholded_relu"])
def test_what_is_the_function_rounded_once_needs_no_bound(name: str, dtype: str) -> None:
    """The short way says of such results what the long one does, but for what is allowed."""
    x = np.concatenate([all_patterns(dtype, 400)[:: 40 if dtype in ("float16", "bfloat16") else 1], signed_log(dtype)])
    row = ACTIVATIONS[name]
    values = {param.name: param.default for param in row.params}
    standard = own(Meaning(name, "op", tuple(values.items()), dtype), on_its_own=False)
    with np.errstate(all="ignore"):
        exact = np.asarray(standard.reference(x.astype(np.float64), held_numbers(standard.function, dtype) or {}))
    points = Points(x, rounded(exact, x.dtype), held_numbers(standard.function, dtype) or {}, values)
    short, long = judge_exact(standard, points), judge_points(standard, points)
    assert not short.outside.any()
    assert not long.outside.any()
    np.testing.assert_array_equal(short.expected, long.expected)
    np.testing.assert_array_equal(short.distance, long.distance)
    assert (short.distance[np.isfinite(x.astype(np.float64))] <= short.allowed[np.isfinite(x.astype(np.float64))]).all()


@pytest.mark.parametrize("x_shape", [(), (1,), (3,)])
@pytest.mark.parametrize("slope_shape", [(), (1,), (3,)])
def test_a_single_number_that_enters_is_broadcast(x_shape: tuple[int, ...], slope_shape: tuple[int, ...]) -> None:
    x, slope = np.full(x_shape, -2.0, np.float32), np.full(slope_shape, 0.25, np.float32)
    meaning = Meaning("prelu", "op", (("slope", Slopes.of(slope) if slope.ndim else 0.25),))
    y = np.asarray(sloped(x, slope))
    assert judge(own(meaning), x, y).outside == 0
    found = judge(own(meaning), x, y * 2)
    assert (found.outside, found.x, found.y, found.expected) == (y.size, -2.0, -1.0, -0.5)


@pytest.mark.parametrize("slope_shape", [(5, 1, 1), (7, 1), (11,), (5, 1, 11), (2, 1, 7, 1), (2, 5, 7, 11)])
def test_each_element_is_held_against_its_own_slope(slope_shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    slope = rng.uniform(0.1, 0.9, slope_shape).astype(np.float32)
    meaning = Meaning("prelu", "op", (("slope", Slopes.of(slope)),))
    x = -np.abs(rng.standard_normal((2, 5, 7, 11))).astype(np.float32)
    y = sloped(x, slope)
    assert judge(own(meaning), x, y).outside == 0
    y[1, 3, 4, 8] *= 2
    found = judge(own(meaning), x, y)
    assert (found.outside, found.index) == (1, (1, 3, 4, 8))
    assert found.expected == pytest.approx(y[1, 3, 4, 8] / 2)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 64, 56, 56), 1), ((1, 2048, 14, 14), 1), ((6, 1024, 7, 7), 1), ((128, 4096), 1)],
)
def test_a_sample_meets_every_channel_and_says_where_it_differs(shape: tuple[int, ...], axis: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    slope = rng.uniform(0.1, 0.9, (shape[axis], *[1] * (len(shape) - axis - 1))).astype(dtype)
    meaning = Meaning("prelu", "op", (("slope", Slopes.of(slope)),), dtype)
    x = -np.abs(rng.standard_normal(shape)).astype(dtype) - 1
    right = sloped(x, slope)
    standard = own(meaning)
    found = judge(standard, x, right, thorough=False, channel_axis=axis - len(shape))
    assert (found.outside, found.elements) == (0, x.size)
    assert 1 << 13 < found.compared <= 1 << 15
    for channel in (0, 17, 63, *rng.choice(shape[axis], 20)):
        wrong = right.copy()
        wrong[:, channel] *= 2
        found = judge(standard, x, wrong, thorough=False, channel_axis=axis - len(shape))
        assert found.channels == (channel,)
        assert found.index[axis] == channel
        assert found.y == float(wrong[found.index])


@pytest.mark.parametrize("shape", [(4,), (1, 1, 3), (2,)])
def test_a_parameter_that_does_not_fit_is_never_taken_for_another(shape: tuple[int, ...]) -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"broadcast|dimensions"):
        _points(np.arange(3), x, x, {}, {"slope": np.arange(math.prod(shape), dtype=np.float64).reshape(shape)})


def test_another_kernel_of_the_function_may_be_as_inexact_as_the_op() -> None:
    """The Sigmoid in ONNX Runtime's QuickGelu is off by 2.8 u of 1, which is 2.8 u of x in the product."""
    x = np.full(8, -17.0, np.float32)
    swish = Meaning("swish", "op", (("beta", 1.0),))
    exact = -17.0 / (1 + math.exp(17.0))
    for off, outside in ((3.0, 0), (6.0, 8)):
        y = np.full(8, exact - off * 2**-24 * 17, np.float32)
        assert judge(Standard(swish, None), x, y).outside == outside
