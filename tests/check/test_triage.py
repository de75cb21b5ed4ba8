"""Likely causes: each found where it is the cause, and not where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

import onnxact
from onnxact.check import Verdict, check
from onnxact.check.case import Case
from onnxact.check.diagnosis import Cause
from onnxact.check.inputs import Feed
from onnxact.check.options import RuntimeOptions
from onnxact.check.reruns import tf32
from onnxact.check.subject import open_subject
from onnxact.check.symptoms import Symptoms
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import Run
from tests.check.models import LEAKY, MUL_MAX, RELU, net, unary

HALF = "c = Constant<value_float = {}>() m = Mul(x, c) h = Cast<to = 10>(m) f = Cast<to = 1>(h) y = Div(f, c)"
GELU = "a = Add(x, b) d = Div(a, s) e = Erf(d) p = Add(e, o) {} y = Mul(q, h)"


def judged(before: ModelProto, after: ModelProto, **options: Any) -> Verdict:
    return check(before, after, providers=["cpu"], **options)


def causes(before: ModelProto, after: ModelProto, **options: Any) -> dict[str, Cause]:
    """Kind -> cause."""
    return {cause.kind: cause for cause in judged(before, after, **options).triage}


def matrix(values: Sequence[float], body: str = "a = MatMul(x, w) y = Relu(a)") -> ModelProto:
    weights = f"float[8, 8] w = {{{', '.join(map(str, values))}}}"
    return net("float[N, 8] x", "float[N, 8] y", body, weights)


def test_no_causes_without_a_difference() -> None:
    assert judged(unary(LEAKY), unary(MUL_MAX)).triage == ()


# At the origin.


@pytest.mark.parametrize("form", ["y = LeakyRelu<alpha = 0.201>(x)", MUL_MAX.replace("0.2", "0.201")])
def test_another_parameter(form: str) -> None:
    found = causes(unary(LEAKY), unary(form))
    assert list(found) == ["parameter"]
    assert found["parameter"].text == "alpha of leaky_relu at 'y' is 0.200000003 before, 0.201000005 after"
    assert found["parameter"].data["was"] == pytest.approx(0.2)
    assert found["parameter"].data["is"] == pytest.approx(0.201)


def test_another_activation() -> None:
    assert (
        causes(unary(RELU), unary(LEAKY))["activation"].text
        == "'y' is relu before, leaky_relu(alpha=0.200000003) after"
    )
    unknown = causes(unary(LEAKY), unary(MUL_MAX.replace("Max", "Min")))["activation"]
    assert unknown.text == "'y' is leaky_relu(alpha=0.200000003) before, made by Min #2 after, in no known form"


def test_one_channel_of_slopes() -> None:
    body, shape = "y = PRelu(x, s)", "float[1, 3, 4]"
    slopes = [f"float[3, 1] s = {{0.1, {second}, 0.3}}" for second in (0.2, 0.25)]
    models = [net(f"{shape} x", f"{shape} y", body, slope) for slope in slopes]
    found = causes(*models)["parameter"]
    assert found.text == ("slope of prelu at 'y' differs in 1 of 3 elements: 0.200000003 before, 0.25 after at [1, 0]")


def test_another_form_within_its_rounding() -> None:
    form = onnxact.decompose(unary(LEAKY), form="mul-abs-add").proto
    found = causes(unary(LEAKY), form, rtol=0.0, atol=0.0)
    assert list(found) == ["form"]
    assert "another form of leaky_relu at 'y'" in found["form"].text
    assert "as mul-abs-add after" in found["form"].text
    assert 0 < found["form"].data["max_abs"] < 1e-5


def test_a_weight_with_another_sign() -> None:
    values = [round(number / 7 - 4, 3) for number in range(64)]
    flipped = [*values[:17], -values[17], *values[18:]]
    found = causes(matrix(values), matrix(flipped))["weights"]
    assert found.text.startswith("the constant 'w' of MatMul #0 differs in 1 of 64 elements: ")
    assert found.text.endswith("at [2, 1], its sign")
    assert (found.data["differing"], found.data["index"]) == (1, [2, 1])


def test_attributes_and_ops() -> None:
    shape = "float[4, 8]"
    rows, columns = (net(f"{shape} x", f"{shape} y", f"y = Softmax<axis = {axis}>(x)") for axis in (1, 0))
    assert causes(rows, columns)["attribute"].text == "attribute axis of Softmax #0 is 1 before, 0 after"
    default = net(f"{shape} x", f"{shape} y", "y = Softmax(x)")
    assert causes(columns, default)["attribute"].text == "attribute axis of Softmax #0 is 0 before, its default after"
    found = causes(unary("y = Exp(x)"), unary("y = Sin(x)"))
    assert found["op"].text == "'y' is made by Exp #0 before, by Sin #0 after"


def test_inputs_of_the_node() -> None:
    pair = "float[4] x, float[4] w"
    before = net(pair, "float[4] y", "a = Abs(x) b = Exp(w) y = Sub(a, b)")
    swapped = net(pair, "float[4] y", "a = Abs(x) b = Exp(w) y = Sub(b, a)")
    assert "in another order: b, a after" in causes(before, swapped)["inputs exchanged"].text
    other = causes(unary("a = Abs(x) y = Exp(a)"), unary("a = Abs(x) b = Neg(a) y = Exp(b)"))
    assert other["input"].text == "Exp #1 reads 'a' before, 'b' after, which is another value"


def test_a_body() -> None:
    other = "else_branch = no () => (float[4] b) {{ b = Neg(x) }}"
    body = f"y = If (c) <then_branch = yes () => (float[4] t) {{{{ t = {{}}(x) }}}}, {other}>"
    models = [net("float[4] x, bool c", "float[4] y", body.format(op)) for op in ("Relu", "Elu")]
    found = causes(*models)
    assert list(found) == ["body"]
    assert found["body"].text == "the body of If #0 differs: in then_branch, node 0 is Relu before, Elu after"


def test_rounding_that_adds_up() -> None:
    bodies = [f"a = Add(x, {name}) y = Sub(a, x)" for name in "ze"]
    models = [net("float[2, 8] x", "float[2, 8] y", body, "float e = {1e-5}, float z = {0.0}") for body in bodies]
    found = causes(*models)
    assert "no single node: on the same inputs Sub #1 agrees" in found["accumulation"].text


# Found by running again.


def test_exchanged_outputs() -> None:
    outputs = "float[4] y, float[4] z, float[4] w"
    before = net("float[4] x", outputs, "y = Relu(x) z = Neg(x) w = Exp(x)")
    after = net("float[4] x", outputs, "z = Relu(x) y = Neg(x) w = Exp(x)")
    found = judged(before, after).triage
    assert [(cause.data["after"], cause.data["before"]) for cause in found if cause.kind == "outputs exchanged"] == [
        ("y", "z"),
        ("z", "y"),
    ]


def test_random_ops_are_named() -> None:
    noisy = unary("n = RandomNormalLike(x) s = Add(x, n) y = Relu(s)")
    noisy.graph.node[0].name = "dice"
    before = causes(noisy, unary(RELU))["non-determinism"]
    assert before.data["model"] == "before"
    assert "it has RandomNormalLike 'dice'" in before.text
    after = causes(unary(RELU), noisy)["non-determinism"]
    assert after.data["model"] == "after"
    assert after.data["moves"] > 0
    assert "non-determinism" not in causes(unary(RELU), unary(LEAKY))


def test_optimisation_level_ops_and_pass() -> None:
    """The same function; ONNX Runtime makes a Gelu of one of them, which rounds otherwise."""
    numbers = ", ".join(str(number / 64) for number in range(64))
    weights = f"float[64] b = {{{numbers}}}, float h = {{0.5}}, float o = {{1.0}}, float s = {{1.41421354}}"
    shape = "float[4, 64]"
    before = net(f"{shape} x", f"{shape} y", GELU.format("q = Mul(a, p)"), weights)
    after = net(f"{shape} x", f"{shape} y", GELU.format("m = Mul(a, p) u = Neg(m) q = Neg(u)"), weights)
    verdict = judged(before, after, rtol=0.0, atol=0.0)
    assert {item.run.optimise for item in verdict.outputs if item.outcome == "different"} == {True}
    found = {cause.kind: cause for cause in verdict.triage}["optimisation"]
    assert "agree up to optimisation level basic and differ at extended" in found.text
    assert found.data["level"] == "extended"
    assert any("Gelu" in op for op in found.data["new_ops"])
    assert "Gelu" in found.data["pass"]
    assert found.data["before_moves"] > found.data["after_moves"] == 0
    assert "optimisation" not in causes(unary(RELU), unary(LEAKY))


def on_cuda(**options: Any) -> Symptoms:
    chosen = RuntimeOptions(**options)
    before, after = (open_subject(unary(op), options=chosen) for op in (RELU, "y = Max(x, x)"))
    feed = Feed("given", {"x": np.ones((2, 8), np.float32)})
    case = Case(before, after, feed, Run("given", "cuda", False), False, 1 << 28)
    return Symptoms(case, (), Tolerance())


def test_tf32_is_tried_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TF32, the models are said to differ; run without, here on the CPU, they agree."""
    seen: list[dict[str, str]] = []

    def ran(symptoms: Symptoms, subject: Any) -> Any:
        seen.append(subject.options.of_provider("cuda"))
        return {"y": np.ones(2, np.float32) * (1 + len(seen) * differ)}

    monkeypatch.setattr("onnxact.check.reruns._run", ran)
    differ = 0.0
    for options in ({"tf32": True}, {"provider_options": {"cuda": {"use_tf32": "1", "device_id": "1"}}}):
        found = list(tf32(on_cuda(**options)))
        assert [cause.kind for cause in found] == ["tf32"]
        assert all(options["use_tf32"] == "0" for options in seen)
    assert seen[-1]["device_id"] == "1"
    assert list(tf32(on_cuda())) == []
    differ = 1.0
    assert list(tf32(on_cuda(tf32=True))) == []


# NaN, infinities, numbers out of range.


def test_nan_begins_at_a_node() -> None:
    before = unary("a = Abs(x) b = Sqrt(a) y = Neg(b)")
    after = unary("a = Identity(x) b = Sqrt(a) y = Neg(b)")
    found = causes(before, after)["nan"]
    assert found.text.startswith("NaN begins in the model after at Sqrt #1, which makes 'b' from a in [-")
    assert (found.data["model"], found.data["value"]) == ("after", "b")
    assert causes(after, before)["nan"].data["model"] == "before"


def test_rules_for_nan() -> None:
    """Sqrt makes NaN in both models; Relu keeps it, and a comparison with NaN is false."""
    before = unary("s = Sqrt(x) y = Relu(s)")
    after = unary("s = Sqrt(x) z = Constant<value_float = 0.0>() g = Greater(s, z) y = Where(g, s, z)")
    found = causes(before, after)
    assert found["nan rule"].text == (
        "NaN enters 'y' from 's': Relu #1 before makes nan of it, Where #3 after 0; ops have different rules for NaN"
    )
    assert "nan" not in found
    assert found["nan rule"].data["after"] == 0.0


def test_given_nan_meets_nan_and_is_noted() -> None:
    x = np.array([[1, -2, np.nan, np.inf, -1, 2, 0, 3]], np.float32)
    same = judged(unary(RELU), unary("z = Constant<value_float = 0.0>() y = Max(x, z)"), inputs={"x": x})
    assert same.equivalent, same.summary()
    assert any("NaN" in note for note in same.notes)
    assert "NaN has to meet NaN" in same.policy
    assert any("NaN has to meet NaN" in line for line in same.summary())
    where = "z = Constant<value_float = 0.0>() g = Greater(x, z) y = Where(g, x, z)"
    other = judged(unary(RELU), unary(where), inputs={"x": x})
    assert other.outcome == "different"
    assert [cause.kind for cause in other.triage] == ["nan rule"]


def test_float16_overflows() -> None:
    models = [net("float[4, 8] x", "float[4, 8] y", HALF.format(scale)) for scale in (100.0, 30000.0)]
    found = causes(*models)["float16 range"]
    assert "the model after has" in found.text
    assert "infinite values of float16, whose largest number is 65504, in 'h'" in found.text
    assert found.data["value"] == "h"


def test_float16_loses_digits() -> None:
    models = [net("float[4, 8] x", "float[4, 8] y", HALF.format(scale)) for scale in (100.0, 1e-6)]
    assert "values below 6.1e-05, the smallest normal float16" in causes(*models)["float16 range"].text
    plain = [
        net("float[4, 8] x", "float[4, 8] y", HALF.format(scale).replace("100.0", "99.0")) for scale in (100.0, 3.0)
    ]
    assert "float16 range" not in causes(*plain)


def test_relative_to_nearly_nothing() -> None:
    shift = "o = Constant<value_float = 1e-7>() y = Add(x, o)"
    found = causes(unary("y = Identity(x)"), unary(shift), rtol=1e-5)["near zero"]
    least = found.data["least_atol"]
    assert f"atol {least:.3g} would pass" in found.text
    assert judged(unary("y = Identity(x)"), unary(shift), rtol=1e-5, atol=least).equivalent
    large = causes(unary("y = Identity(x)"), unary(shift.replace("1e-7", "1e-1")), rtol=1e-5)
    assert "near zero" not in large


def test_causes_are_plain_data_in_the_report() -> None:
    report = judged(unary(LEAKY), unary("y = LeakyRelu<alpha = 0.3>(x)")).to_json()
    assert [cause["kind"] for cause in report["triage"]] == ["parameter"]
    assert report["triage"][0]["data"]["parameter"] == "alpha"
    wrong = judged(unary(LEAKY), unary("y = LeakyRelu<alpha = 0.3>(x)"))
    assert any("likely cause: alpha of leaky_relu" in line for line in wrong.summary())
