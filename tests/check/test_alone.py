"""Trier: a site of two models, cut out of both and run on special values, kinks and both sides of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

import onnxact.check.alone as module
from onnxact.check.alone import Alone, Expected, Trier
from onnxact.check.meaning import channel_axis, kinks
from onnxact.check.placing import place
from onnxact.check.points import every_value, ordinary_points, special_points
from onnxact.check.session import RunFailure, open_session
from onnxact.check.site_evidence import Meaning, SiteProbe, Slopes
from onnxact.check.standard import Standard
from onnxact.check.subject import Subject, open_subject
from tests.check.models import LEAKY, MUL_ABS_ADD, MUL_MAX, RELU, net, unary


def leaky(form: str = "op", alpha: float = 0.2) -> Meaning:
    return Meaning("leaky_relu", form, (("alpha", float(np.float32(alpha))),), "float32")


def tried(
    before: ModelProto,
    after: ModelProto,
    meanings: tuple[Meaning | None, Meaning | None] = (None, None),
    *,
    exact: bool = False,
    dtype: str = "float32",
) -> Alone:
    """The site x -> y of both models on its own."""
    first, second = meanings
    probe = SiteProbe("", "", "x", "y", kinks(first, second) or (0.0,), channel_axis(first, second), first, second)
    placed = [place(open_subject(model), [probe], {}, side) for model, side in ((before, "before"), (after, "after"))]
    function = first or second
    standards: Any = (None, None)
    if function is not None:
        standards = tuple(Standard(function, own, on_its_own=True, defines=own is function) for own in meanings)
    return Trier(placed[0], placed[1], exact=exact).run({probe: Expected(dtype, (standards,))})[probe]


def test_forms_of_one_function_are_the_same() -> None:
    for body, form in ((MUL_MAX, "mul-max"), (MUL_ABS_ADD, "mul-abs-add")):
        found = tried(unary(LEAKY), unary(body), (leaky(), leaky(form)))
        assert (found.text, found.is_same) == ("same", True)
        assert found.elements > 10_000


def test_what_a_form_declares_is_said() -> None:
    found = tried(unary(LEAKY), unary(MUL_ABS_ADD), (leaky(), leaky("mul-abs-add")))
    assert "after, nan where f(-inf) is -inf, as its form declares" in found.notes
    assert any("zero of the other sign" in note for note in found.notes)


def test_equal_nodes_need_no_run() -> None:
    one, other = unary(LEAKY), unary("[other] y = LeakyRelu<alpha = 0.2>(x)")
    assert tried(one, other, (leaky(), leaky())).text == "identical"


@pytest.mark.parametrize("body", [RELU, "y = LeakyRelu<alpha = 0.201>(x)", "y = Abs(x)", "y = Identity(x)"])
def test_other_functions_differ(body: str) -> None:
    for meanings in ((leaky(), None), (None, None)):
        found = tried(unary(LEAKY), unary(body), meanings)
        assert found.text.startswith("differs: ")


# Same on finite inputs, another result at one special value.
SPECIAL = {
    "-inf": "z = Constant<value_float = -3.3e38>() m = Max(x, z) y = LeakyRelu<alpha = 0.2>(m)",
    "inf": "z = Constant<value_float = 3.3e38>() m = Min(x, z) y = LeakyRelu<alpha = 0.2>(m)",
    "nan": "b = IsNaN(x) z = Constant<value_float = 0.0>() m = Where(b, z, x) y = LeakyRelu<alpha = 0.2>(m)",
}


@pytest.mark.parametrize("value", SPECIAL)
def test_a_difference_at_one_special_value_is_seen(value: str) -> None:
    """Without Where and IsNaN being ops of forms such parts would not be run."""
    body = SPECIAL[value]
    if value == "nan":
        body = "z = Constant<value_float = 0.0>() b = Equal(x, x) m = Where(b, x, z) y = LeakyRelu<alpha = 0.2>(m)"
    found = tried(unary(LEAKY), unary(body), (leaky(), None))
    assert found.text.startswith("differs: ")
    assert f"x = {value}" in found.text


def test_the_sign_of_a_zero_is_seen_and_said() -> None:
    meaning = Meaning("thresholded_relu", "op", (("alpha", -1.0),), "float32")
    before = unary("y = ThresholdedRelu<alpha = -1.0>(x)", opset=18)
    where = "z = Constant<value_float = 0.0>() a = Constant<value_float = -1.0>() g = Greater(x, a) "
    right = unary(where + "y = Where(g, x, z)", opset=18)
    assert tried(before, right, (meaning, Meaning("thresholded_relu", "where", meaning.parameters, "float32"))).is_same
    wrong = unary(where + "p = Add(x, z) y = Where(g, p, z)", opset=18)
    claimed = Meaning("thresholded_relu", "op", meaning.parameters, "float32")
    found = tried(before, wrong, (meaning, claimed))
    assert "x = -0" in found.text


def test_where_bits_have_to_be_kept_every_difference_counts() -> None:
    meanings = leaky(), leaky("mul-abs-add")
    assert tried(unary(LEAKY), unary(MUL_ABS_ADD), meanings).is_same
    assert tried(unary(LEAKY), unary(MUL_ABS_ADD), meanings, exact=True).text.startswith("differs: ")
    assert tried(unary(LEAKY), unary(MUL_MAX), (leaky(), leaky("mul-max")), exact=True).is_same


def test_one_channel_among_many() -> None:
    slopes = np.linspace(0.1, 0.4, 64, dtype=np.float32).reshape(64, 1, 1)

    def model(value: Any, *nodes: str) -> ModelProto:
        made = net("float[1, 64, 4, 4] x", "float[1, 64, 4, 4] y", " ".join(nodes))
        made.graph.initializer.append(numpy_helper.from_array(value, "s"))
        return made

    meaning = Meaning("prelu", "op", (("slope", Slopes.of(slopes)),), "float32")
    decomposed = Meaning("prelu", "mul-max", meaning.parameters, "float32")
    before = model(slopes, "y = PRelu(x, s)")
    right = tried(before, model(slopes, "m = Mul(x, s) y = Max(x, m)"), (meaning, decomposed))
    assert right.is_same
    wrong = slopes.copy()
    wrong[17] += np.float32(1e-3)
    found = tried(before, model(wrong, "m = Mul(x, s) y = Max(x, m)"), (meaning, decomposed))
    assert "in channels 17" in found.text


def test_what_is_not_run_says_why() -> None:
    shaped = unary("s = Shape(x) r = Reshape(x, s) y = Relu(r)")
    assert tried(unary(RELU), shaped).text == "not run: Shape is not known to work element by element"
    other = net("float[N, 8] x, float[1] s", "float[N, 8] y", "y = PRelu(x, s)")
    assert tried(other, unary(LEAKY)).text == "not run: it also reads 's'"
    assert tried(unary("y = Relu(x)"), unary("y = Clip(x)"), dtype="float64").text.startswith("not run") is False


def test_many_sites_are_one_session_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 sites of 3 kinds: 3 trials, 2 sessions."""
    opened: list[Subject] = []

    def counted(subject: Subject, provider: str, **options: Any) -> Any:
        opened.append(subject)
        return open_session(subject, provider, **options)

    monkeypatch.setattr(module, "open_session", counted)
    alphas = [(0.1, 0.2, 0.3)[number % 3] for number in range(50)]
    names = ["x", *(f"v{number}" for number in range(49)), "y"]
    pairs = list(itertools.pairwise(names))
    before = unary(
        " ".join(f"{b} = LeakyRelu<alpha = {alpha}>({a})" for (a, b), alpha in zip(pairs, alphas, strict=True))
    )
    weights = "float[1] w1 = {0.1}, float[1] w2 = {0.2}, float[1] w3 = {0.3}"
    nodes = (
        f"{b}m = Mul({a}, w{round(alpha * 10)}) {b} = Max({a}, {b}m)"
        for (a, b), alpha in zip(pairs, alphas, strict=True)
    )
    after = net("float[N, 8] x", "float[N, 8] y", " ".join(nodes), weights)
    probes = [
        SiteProbe("", "", a, b, (0.0,), None, leaky("op", alpha), leaky("mul-max", alpha))
        for (a, b), alpha in zip(pairs, alphas, strict=True)
    ]
    placed = [place(open_subject(model), probes, {}, side) for model, side in ((before, "before"), (after, "after"))]
    found = Trier(placed[0], placed[1]).run({probe: Expected("float32", ((None, None),)) for probe in probes})
    assert {item.text for item in found.values()} == {"same"}
    assert len(opened) == 2
    assert [len(subject.model.graph.output) for subject in opened] == [3, 3]


def test_a_part_that_does_not_run_does_not_cost_the_others() -> None:
    body = "a = LeakyRelu<alpha = 0.2>(x) y = {}(a)"
    before, after = unary(body.format("Mish")), unary("m = Mul(x, w) a = Max(x, m) y = Mish(a)")
    after.graph.initializer.append(numpy_helper.from_array(np.array([0.2], np.float32), "w"))
    probes = [SiteProbe("", "", "x", "a"), SiteProbe("", "", "a", "y")]
    broken = unary("m = Mul(x, w) a = Max(x, m) y = Gelu(a)")
    broken.graph.initializer.append(numpy_helper.from_array(np.array([0.2], np.float32), "w"))
    placed = [place(open_subject(model), probes, {}, "before") for model in (before, broken)]
    found = Trier(placed[0], placed[1]).run({probe: Expected("float32", ((None, None),)) for probe in probes})
    assert found[probes[0]].text == "same"
    assert found[probes[1]].text.startswith("not run: ")


# What is fed.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_special_points_are_special(dtype: str) -> None:
    points = special_points((0.0, 6.0), dtype)
    wide = points.astype(np.float64)
    for value in (0.0, np.inf, -np.inf, 6.0):
        assert (wide == value).any()
    assert np.isnan(wide).any()
    assert {bool(np.signbit(value)) for value in points[wide == 0]} == {True, False}
    around = np.sort(wide[(wide > 5) & (wide < 7)])
    assert len(around) == 3
    assert around[1] == 6
    smallest = wide[(wide > 0)].min()
    assert np.asarray(smallest / 2).astype(points.dtype).astype(np.float64) in (0, smallest)


def test_ordinary_points_have_both_sides_of_every_kink_early_on() -> None:
    points = ordinary_points((0.0, 100.0), "float32")[:200]
    assert all(((points > kink).sum() > 20) and ((points < kink).sum() > 20) for kink in (0.0, 100.0))
    assert np.isfinite(points).all()


def test_sixteen_bits_are_tried_whole() -> None:
    assert len(np.unique(every_value("float16").view(np.uint16))) == 65536
    before = net("float16[N] x", "float16[N] y", "y = LeakyRelu<alpha = 0.25>(x)")
    after = net("float16[N] x", "float16[N] y", "m = Mul(x, w) y = Max(x, m)")
    after.graph.initializer.append(numpy_helper.from_array(np.array([0.25], np.float16), "w"))
    found = tried(before, after, exact=True, dtype="float16")
    assert found.is_same
    assert found.elements > 65536


def test_a_failure_says_which_side() -> None:
    failure = RunFailure("load", "no kernel")
    assert module._failed(failure, failure).text == "not run: it does not load: no kernel"
    assert module._failed([], failure).text == "not run: after, it does not load: no kernel"
    assert module._failed(failure, []).text == "not run: before, it does not load: no kernel"


@pytest.mark.parametrize(
    "condition", ["c = Equal(x, k)", "n = Neg(x) c = Equal(n, k)", "d = Add(x, k) c = Equal(d, z)"]
)
@pytest.mark.parametrize("number", [3.14159, 1234.5, -2.5e-3])
def test_a_difference_at_a_constant_of_the_nodes_is_seen(condition: str, number: float) -> None:
    body = f"k = Constant<value_float = {number}>() z = Constant<value_float = 0.0>() {LEAKY.replace('y =', 'l =')}"
    after = unary(f"{body} {condition} y = Where(c, z, l)")
    found = tried(unary(LEAKY), after, (leaky(), None))
    assert found.text.startswith("differs"), found


def test_a_difference_between_two_constants_is_seen() -> None:
    body = """
        k = Constant<value_float = 7.0>() l = Constant<value_float = 7.000005>() z = Constant<value_float = 0.0>()
        p = Greater(x, k) q = Less(x, l) c = And(p, q) r = Relu(x) y = Where(c, z, r)
    """
    assert tried(unary(RELU), unary(body)).text.startswith("differs: at")
