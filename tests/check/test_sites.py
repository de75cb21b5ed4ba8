"""judge_sites: what is known of every site in the end, and what it means for the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import onnxact
from onnxact.check import SiteEvidence, SiteProbe, Verdict, check, make_inputs
from onnxact.check.inputs import Feed
from onnxact.check.sites import SiteJob, judge_sites
from onnxact.check.subject import open_subject
from onnxact.report.plain import plain_text
from tests.check.models import LEAKY, MUL_ABS_ADD, MUL_MAX, RELU, net, unary

SITE = SiteProbe("", "", "x", "y")


def fed(*values: float) -> Feed:
    return Feed("given", {"x": np.array(values, np.float32)})


def vector(body: str) -> ModelProto:
    return net("float[N] x", "float[N] y", body)


def copied(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


def judged(model: ModelProto, sites: list[SiteProbe], *feeds: Feed, **options: Any) -> tuple[SiteEvidence, ...]:
    """The sites of a model against another of which nothing is the same but they."""
    other = copied(model)
    other.graph.node.add(op_type="Exp", input=["x"], output=["more"])
    other.graph.node[-2].output[0] = "before_last"
    other.graph.node.add(op_type="Identity", input=["before_last"], output=["y"])
    job = SiteJob(open_subject(model), open_subject(other), tuple(feeds), sites=tuple(sites), **options)
    return judge_sites(job).evidence


def on_cpu(before: Any, after: Any, **options: Any) -> Verdict:
    return check(before, after, providers=["cpu"], diagnose=False, **options)


# What went through.


def test_inputs_and_inner_values_are_counted() -> None:
    model = vector("n = Neg(x) a = Relu(n) b = Relu(a) y = Add(a, b)")
    sites = [SiteProbe("", "first", "n", "a"), SiteProbe("", "second", "a", "b")]
    found = judged(model, sites, fed(-1, 2, 0))
    assert [item.reached for item in found] == [True, True]
    assert [(item.counts[0].below, item.counts[0].at, item.counts[0].above) for item in found] == [(1, 1, 1), (0, 2, 1)]
    assert [(item.signs.negative, item.signs.zero, item.signs.positive) for item in found] == [(1, 1, 1), (0, 2, 1)]
    assert "nothing can be below 0" in found[1].ruled_out


def test_inputs_are_searched_until_reached_and_those_that_helped_are_kept() -> None:
    model = vector("z = Relu(x) y = Neg(z)")
    asked: list[str] = []

    def candidates() -> Any:
        for label, value in (("same", 2.0), ("other", -2.0), ("never", -3.0)):
            asked.append(label)
            yield Feed(label, {"x": np.array([value], np.float32)})

    other = vector("z = Relu(x) w = Neg(z) y = Identity(w)")
    site = SiteProbe("", "", "x", "z")
    job = SiteJob(open_subject(model), open_subject(other), (fed(1),), candidates, (site,))
    found = judge_sites(job)
    assert found.evidence[0].reached
    assert [feed.label for feed in found.feeds] == ["other"]
    assert asked == ["same", "other", "never"]


def test_inputs_that_compare_nothing_do_not_count() -> None:
    """Below zero the output is NaN throughout, so those inputs say nothing of the branch."""
    model = vector("r = Relu(x) s = Sqrt(x) y = Add(r, s)")
    site = SiteProbe("", "", "x", "r")
    for extra, reached in ((-2.0, False), (2.0, True)):
        found = judged(model, [site], fed(1, 2), candidates=lambda extra=extra: [fed(-1, extra)])
        assert found[0].reached == reached


def test_made_inputs_reach_a_deep_chain() -> None:
    body = " ".join(f"n{i} = Neg({f'y{i}' if i else 'x'}) y{i + 1} = LeakyRelu<alpha = 0.5>(n{i})" for i in range(20))
    model = net("float[N, 8] x", "float[N, 8] y20", body)
    other = net("float[N, 8] x", "float[N, 8] y20", body.replace("y20", "z") + " y20 = Identity(z)")
    job = SiteJob(open_subject(model), open_subject(other), (Feed("seed 0", make_inputs(model, seed=0)),))
    found = judge_sites(job).evidence
    assert len(found) == 20
    assert all(item.reached for item in found if not item.site.only_in)


def test_memory_budget_does_not_change_the_evidence() -> None:
    body = "a = Relu(x) b = Neg(a) c = Relu(b) d = Neg(x) y = Relu(d)"
    models = [
        unary(body),
        unary(body.replace("Relu(b)", "Max(b, z)").replace("a = ", "z = Constant<value_float=0.0>() a = ")),
    ]
    small, large = (on_cpu(*models, memory_budget=budget) for budget in (400, 1 << 30))
    assert small.sites == large.sites
    assert small.equivalent


@pytest.mark.parametrize("end", ["y = Mul(x, z)", "z1 = Abs(z) y = Mul(x, z1)"])
def test_a_value_larger_than_the_budget_is_refused_clearly(end: str) -> None:
    """The site is the same on its own; whether that settles it depends on what is around it."""
    start = "t = Tile(x, r) {} z = ReduceSum<keepdims = 0>(q)"
    before = unary(f"{start.format('q = LeakyRelu<alpha = 0.25>(t)')} y = Mul(x, z)")
    after = unary(f"{start.format('m = Mul(t, a) q = Max(t, m)')} {end}")
    for model in (before, after):
        model.graph.initializer.append(numpy_helper.from_array(np.array([50, 1]), "r"))
    after.graph.initializer.append(numpy_helper.from_array(np.array([0.25], np.float32), "a"))
    verdict = on_cpu(before, after, memory_budget=2000)
    (site,) = verdict.sites
    assert "more than the memory budget" in site.missed
    assert verdict.equivalent == (end == "y = Mul(x, z)"), verdict.summary()


# What it computed.


@pytest.mark.parametrize("form", [MUL_MAX, MUL_ABS_ADD])
def test_values_are_held_against_the_reference_in_both_models(form: str) -> None:
    (site,) = on_cpu(unary(LEAKY), unary(form)).sites
    assert site.outcome == "equivalent"
    for found in (site.before, site.after):
        assert found is not None
        assert found.compared == found.elements == 16
        assert (found.outside, found.inputs) == (0, "seed 0")
        assert found.expected is not None
        assert found.max_u <= 8


@pytest.mark.parametrize("body", ["y = LeakyRelu<alpha = 0.201>(x)", RELU, "y = Identity(x)", "y = Abs(x)"])
def test_another_function_is_different_and_named(body: str) -> None:
    verdict = on_cpu(unary(LEAKY), unary(body))
    assert verdict.outcome == "different"
    assert verdict.sites[0].outcome == "different"
    assert any(reason.startswith("site 'y': ") for reason in verdict.reasons)


def test_a_site_that_nothing_shows_is_inconclusive() -> None:
    body = "r = {}(x) i = ArgMax<axis = 1>(r) y = Cast<to = 1>(i)"
    models = [net("float[N, 64] x", "float[N, 1] y", body.format(op)) for op in ("Relu", "LeakyRelu<alpha = 0.2>")]
    verdict = on_cpu(*models)
    assert (verdict.outcome, verdict.sites[0].outcome) == ("inconclusive", "different")
    assert "relu before, leaky_relu(alpha = 0.2) after" in verdict.reasons[0]


TWO = "l = LeakyRelu<alpha = {}>(x) y = Neg(l) z = Abs(l)"


@pytest.mark.parametrize(
    "given", [{"rtol": 0.01}, {"rtol": {"y": 0.01}}, {"atol": 1.0}, {"atol": {"y": 1.0}}, {"rtol": {"": 0.01}}]
)
def test_a_tolerance_is_for_outputs_and_what_a_site_moves_within_it_is_said(given: dict[str, Any]) -> None:
    wrong = unary("y = LeakyRelu<alpha = 0.201>(x)")
    assert on_cpu(unary(LEAKY), wrong).outcome == "different"
    verdict = on_cpu(unary(LEAKY), wrong, **given)
    assert verdict.equivalent, verdict.summary()
    assert (verdict.sites[0].outcome, verdict.sites[0].tolerated, verdict.sites[0].doubt) == ("different", True, "")
    assert any("is another function, within the tolerance given for the outputs" in note for note in verdict.notes)
    assert on_cpu(unary(LEAKY), wrong, rtol=1e-9).outcome == "different"


def test_a_tolerance_for_one_output_says_nothing_of_the_others() -> None:
    before, after = (net("float[N, 8] x", "float[N, 8] y, float[N, 8] z", TWO.format(a)) for a in (0.2, 0.2000001))
    assert on_cpu(before, after, rtol=0.01).equivalent
    assert on_cpu(before, after, rtol={"y": 0.01}).outcome == "different"


def test_a_tolerance_is_no_excuse_for_a_branch_that_nothing_entered() -> None:
    before, after = (unary(f"l = LeakyRelu<alpha = {alpha}>(x) y = Add(l, x)") for alpha in (0.2, 0.201))
    assert on_cpu(before, after, inputs=positive(), rtol=0.1).outcome == "inconclusive"


def test_slope_that_is_computed_from_the_inputs() -> None:
    before = net("float[4] x, float[1] s", "float[4] y", "y = PRelu(x, s)")
    right = net(
        "float[4] x, float[1] s", "float[4] y", "p = Mul(x, s) z = Less(x, o) y = Where(z, p, x)", "float o = {0}"
    )
    wrong = net(
        "float[4] x, float[1] s", "float[4] y", "p = Mul(x, s) z = Less(x, o) y = Where(z, x, p)", "float o = {0}"
    )
    verdict = on_cpu(before, right)
    assert verdict.equivalent, verdict.summary()
    (site,) = verdict.sites
    assert site.alone == "not run: it also reads 's'"
    assert site.after is not None
    assert site.after.compared >= 4
    assert on_cpu(before, wrong).outcome == "different"


def test_sites_on_their_own_are_run_in_their_own_shape() -> None:
    """A slope [C, 1] has to meet x of [.., C, ..]; every channel is compared below and above zero."""
    slopes = "float[3, 1] slope = {0.1, %s, 0.3}"
    models = [net("float[2, 3, 3] x", "float[2, 3, 3] y", "y = PRelu(x, slope)", slopes % text) for text in ("1", "2")]
    given = {"x": np.ones((2, 3, 3), np.float32)}
    verdict = on_cpu(*models, inputs=given)
    assert verdict.outcome == "inconclusive"
    assert "in channels 1" in verdict.sites[0].alone


@pytest.mark.parametrize(("alpha", "outcome"), [(0.25, "equivalent"), (0.375, "different")])
def test_a_site_in_another_precision_is_judged_in_its_own(alpha: float, outcome: str) -> None:
    """Inside, the second model computes in double precision."""
    before = unary("y = LeakyRelu<alpha = 0.25>(x)")
    after = unary(f"d = Cast<to = 11>(x) e = LeakyRelu<alpha = {alpha}>(d) y = Cast<to = 1>(e)")
    verdict = on_cpu(before, after)
    assert verdict.outcome == outcome, verdict.summary()


# What settles a site without inputs, and what does not.


def positive() -> dict[str, Any]:
    return {"x": np.linspace(0.5, 3, 16, dtype=np.float32).reshape(2, 8)}


def test_right_on_its_own_with_the_same_around_it_settles() -> None:
    verdict = on_cpu(unary(LEAKY), unary(MUL_MAX), inputs=positive())
    assert verdict.equivalent
    (site,) = verdict.sites
    assert (site.missed, site.surroundings) == ("no value below 0 entered it", "the same")


def test_other_names_of_values_settle_as_well() -> None:
    before = unary("a = Neg(x) r = LeakyRelu<alpha = 0.2>(x) b = Neg(r) y = Add(a, b)")
    after = unary("p = Neg(x) q = LeakyRelu<alpha = 0.2>(x) s = Neg(q) y = Add(p, s)")
    verdict = on_cpu(before, after, inputs=positive())
    assert verdict.equivalent, verdict.summary()
    assert (verdict.sites[0].site.names("after"), verdict.sites[0].surroundings) == (("x", "q"), "the same")


def test_right_on_its_own_with_something_else_around_it_does_not() -> None:
    after = unary("m = Mul(x, a) z = Max(x, m) y = Abs(z)")
    after.graph.initializer.append(numpy_helper.from_array(np.array([0.2], np.float32), "a"))
    before = unary("z = LeakyRelu<alpha = 0.2>(x) y = Identity(z)")
    verdict = on_cpu(before, after, inputs=positive())
    assert verdict.outcome == "inconclusive"
    assert "no value below 0 entered it" in verdict.reasons[0]
    assert "the node that makes 'y' is not the same" in verdict.sites[0].surroundings


def test_a_bound_that_nothing_passes_is_no_gap_where_the_same_values_meet_it() -> None:
    """Clip at 1e6, in two models that differ after it; but Relu has to be reached."""
    body = "c = Clip(x, low, high) {} y = Neg(r)"
    bounds = "float low = {-1000000}, float high = {1000000}"
    first, second = (
        net("float[N, 8] x", "float[N, 8] y", body.format(text), bounds)
        for text in ("r = Identity(c)", "r = Cast<to = 1>(c)")
    )
    verdict = on_cpu(first, second)
    assert verdict.equivalent, verdict.summary()
    clip = verdict.sites[0]
    assert "what enters it is the same in both models" in clip.reason
    relu = [vector(f"p = Abs(x) q = Neg(p) r = Relu(q) {end}") for end in ("y = Identity(r)", "y = Cast<to = 1>(r)")]
    assert on_cpu(*relu).equivalent  # Relu of what cannot be positive
    hidden = [unary(f"s = Add(x, m) r = Relu(s) {end}") for end in ("y = Identity(r)", "y = Cast<to = 1>(r)")]
    for model in hidden:
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1e9], np.float32), "m"))
    assert on_cpu(*hidden).outcome == "inconclusive"


# Bodies and functions.


CALLS = "[one] a = local.act<alpha: float = 0.1>(x) [two] y = local.act<alpha: float = {}>(a)"
ACT = """<opset_import: ["" : 18], domain: "local"> act <alpha: float = 0.3> (u) => (v) {
    n = Neg(u) [it] v = LeakyRelu<alpha: float = @alpha>(n)
}"""


def test_every_call_of_a_function_counts() -> None:
    before, same, other = (
        net("float[64] x", "float[64] y", CALLS.format(alpha), functions=ACT, ir=10) for alpha in (0.1, 0.1, 0.101)
    )
    (site,) = on_cpu(before, same).sites
    assert (site.site.scope, site.elements, site.outcome) == ("local:act", 256, "equivalent")
    verdict = on_cpu(before, other)
    assert verdict.outcome == "different"
    assert verdict.sites[0].differs


def test_a_decomposed_function_is_held_against_what_each_call_gives_it() -> None:
    before = net("float[64] x", "float[64] y", CALLS.format(0.2), functions=ACT, ir=10)
    typed = copied(before)
    typed.graph.value_info.append(onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [64]))
    right = onnxact.decompose(typed, form="where")
    assert right.changed
    verdict = right.check(providers=["cpu"])
    assert verdict.equivalent, verdict.summary()
    wrong = copied(right.proto)
    node = next(node for node in wrong.functions[0].node if node.op_type == "Less")
    node.op_type = "Greater"
    verdict = on_cpu(typed, wrong)
    assert verdict.outcome == "different"
    assert [item.site.output for item in verdict.sites if item.differs] == ["v"]


LOOP = """
    t = Constant<value = int64 {{3}}>() on = Constant<value = bool {{1}}>()
    y = Loop (t, on, x) <body = b (int64 i, bool ci, float[64] v) => (bool co, float[64] o) {{
        co = Identity(ci) n = Neg(v) [it] o = {}(n)
    }}>
"""


@pytest.mark.parametrize("opset", [11, 18])
def test_a_site_in_a_loop(opset: int) -> None:
    before, wrong = (
        net("float[64] x", "float[64] y", LOOP.format(op), opset=opset)
        for op in ("LeakyRelu<alpha = 0.5>", "LeakyRelu<alpha = 0.501>")
    )
    verdict = onnxact.decompose(before, form="mul-max").check(providers=["cpu"])
    assert verdict.equivalent, verdict.summary()
    (site,) = verdict.sites
    assert site.elements == 3 * 64 * 2
    assert site.after is not None
    assert not site.after.is_outside
    verdict = on_cpu(before, wrong)
    assert verdict.outcome == "different"
    assert any("site 'it' in /Loop" in reason for reason in verdict.reasons)


def test_external_weights_are_shared_by_every_copy(tmp_path: Path) -> None:
    """A site in a body needs a copy of the model; its weights stay in their file."""
    body = """
        m = MatMul(x, w)
        y = If (c) <
            then_branch = t () => (float[2, 8] a) { a = Relu(m) },
            else_branch = e () => (float[2, 8] b) { b = Neg(m) }
        >
    """
    model = net("float[2, 8] x, bool c", "float[2, 8] y", body)
    model.graph.initializer.append(numpy_helper.from_array(np.full((8, 8), 1.5, np.float32), "w"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=8, location="m.bin")
    other = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    relu = next(a.g for a in other.graph.node[1].attribute if a.name == "then_branch").node[0]
    relu.op_type = "Max"
    relu.input.append("zero")
    other.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    verdict = on_cpu(tmp_path / "m.onnx", other, folder=tmp_path)
    assert verdict.equivalent, verdict.summary()
    assert verdict.sites[0].elements
    relu.op_type = "Min"
    assert on_cpu(tmp_path / "m.onnx", other, folder=tmp_path).outcome == "different"


# One model only, or no form of the table.


@pytest.mark.parametrize("condition", ["m = ReduceMax<keepdims = 0>(x) c = Less(m, k)", "c = Equal(k, k)"])
def test_a_branch_that_no_input_takes_may_hide_another_function(condition: str) -> None:
    branch = "{} = {} () => (float[N, 8] {}) {{ {} = {}(x) }}"
    branches = branch.format("then_branch", "t", "a", "a", "Relu"), branch.format("else_branch", "e", "b", "b", "Abs")
    after = net("float[N, 8] x", "float[N, 8] y", f"{condition} y = If(c) <{', '.join(branches)}>", "float k = {1e5}")
    verdict = on_cpu(unary("y = Relu(x)"), after)
    assert verdict.outcome == "inconclusive", verdict.summary()
    assert any("it is no form of the table" in reason for reason in verdict.reasons)
    assert not any(output.differing for output in verdict.outputs)


def test_sites_that_no_value_entered_do_not_count_as_reached() -> None:
    model = unary(LEAKY)
    changed = onnxact.decompose(model, form="mul-max").model
    for array in (np.zeros((0, 8), np.float32), np.full((2, 8), np.nan, np.float32)):
        verdict = on_cpu(model, changed, inputs={"x": array})
        assert verdict.outcome == "inconclusive"
        assert [item.reach for item in verdict.sites] == ["settled"]
        text = "\n".join(plain_text(verdict, width=150).splitlines())
        assert "0 of 1 site reached on every side of their kinks, 1 not reached on every side, settled" in text


def test_a_site_in_one_model_only_is_said_and_its_branches_count() -> None:
    before, after = unary("r = Relu(x) y = Neg(r)"), unary("m = Neg(x) n = Min(m, z) y = Identity(n)")
    after.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "z"))
    verdict = on_cpu(before, after)
    assert verdict.equivalent, verdict.summary()
    only = {item.site.only_in: item for item in verdict.sites}
    assert set(only) == {"before", "after"}
    assert (only["before"].reached, only["before"].outcome) == (True, "equivalent")
    assert "the part around it, from 'x' to 'y', is the same in both models" in only["before"].reason
    assert on_cpu(before, after, inputs=positive()).outcome == "inconclusive"


def test_reason_is_plain_text_and_json_is_plain_data() -> None:
    verdict = on_cpu(unary(LEAKY), unary(MUL_ABS_ADD))
    body = verdict.to_json()["sites"][0]
    assert body["outcome"] == "equivalent"
    assert body["site"]["after"]["form"] == "mul-abs-add"
    assert body["after"]["compared"] == 16
    assert "as its form declares" in verdict.sites[0].reason
