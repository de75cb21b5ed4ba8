"""sites: counting, observing in chunks, searching, and sites on their own."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto

from onnxact.check import SiteProbe, check, make_inputs
from onnxact.check.alone import anatomy, isolate
from onnxact.check.inputs import Feed
from onnxact.check.interval import ANY, NOT_NEGATIVE
from onnxact.check.observe import chunks
from onnxact.check.session import RunFailure, run_session
from onnxact.check.sites import missing, reach, tally
from onnxact.check.subject import open_subject
from tests.check.models import net, unary

SITE = SiteProbe("", "", "x", "y")


def fed(*values: float) -> Feed:
    return Feed("given", {"x": np.array(values, np.float32)})


def vector(body: str) -> ModelProto:
    return net("float[N] x", "float[N] y", body)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_tally_counts_each_side(dtype: Any) -> None:
    array = np.array([-2, -0.0, 0, 3, 7, np.nan, np.inf, -np.inf], dtype)
    counted = tally(SiteProbe("", "", "x", "y", (0.0, 6.0)), array)
    assert counted.below.tolist() == [[2], [5]]
    assert counted.at.tolist() == [[2], [0]]
    assert counted.above.tolist() == [[3], [2]]
    assert (counted.elements, counted.nan, counted.infinite) == (8, 1, 2)


def test_tally_by_channel() -> None:
    array = np.array([[[-1, -1], [1, 2], [0, 5]]], np.float32)
    for axis in (1, -2):
        counted = tally(SiteProbe("", "", "x", "y", (0.0,), axis), array)
        assert counted.below.tolist() == [[2, 0, 0]]
        assert counted.above.tolist() == [[0, 2, 1]]
    assert tally(SiteProbe("", "", "x", "y", (0.0,), 5), array).below.tolist() == [[2]]


def test_missing_names_sides_and_channels() -> None:
    site = SiteProbe("", "", "x", "y", (0.0, 6.0))
    ones = tally(site, np.ones(3, np.float32))
    assert missing(site, ones, ANY) == ("no value below 0 entered it", "no value above 6 entered it")
    assert missing(site, ones, NOT_NEGATIVE) == ("no value above 6 entered it",)
    assert missing(site, None, ANY) == ("no value entered it",)
    assert missing(site, tally(site, np.full(2, np.nan, np.float32)), ANY) == ("no value entered it",)
    smooth = SiteProbe("", "", "x", "y", ())
    assert missing(smooth, tally(smooth, np.ones(1, np.float32)), ANY) == ()
    channels = SiteProbe("", "", "x", "y", (0.0,), 0)
    counted = tally(channels, np.array([[-1.0, 1.0]] + [[1.0, 1.0]] * 10, np.float32))
    assert missing(channels, counted, ANY) == (
        "no value below 0 entered 10 of 11 channels (1, 2, 3, 4, 5, 6, 7, 8, ...)",
    )


def test_reach_observes_inputs_and_inner_values() -> None:
    model = vector("n = Neg(x) a = Relu(n) b = Relu(a) y = Add(a, b)")
    sites = [SiteProbe("", "first", "n", "a"), SiteProbe("", "second", "a", "b"), SiteProbe("", "third", "x", "y")]
    found = reach(open_subject(model), sites, [fed(-1, 2, 0)])
    assert [item.reached for item in found.evidence] == [True, True, True]
    assert [(item.counts[0].below, item.counts[0].at, item.counts[0].above) for item in found.evidence] == [
        (1, 1, 1),
        (0, 2, 1),
        (1, 1, 1),
    ]
    assert "nothing can be below 0" in found.evidence[1].ruled_out
    assert found.feeds == ()


def test_reach_searches_until_reached_and_keeps_what_helped() -> None:
    model = vector("y = Relu(x)")
    asked: list[str] = []

    def candidates() -> Any:
        for label, value in (("same", 2.0), ("other", -2.0), ("never", -3.0)):
            asked.append(label)
            yield Feed(label, {"x": np.array([value], np.float32)})

    found = reach(open_subject(model), [SITE], [fed(1)], candidates)
    assert found.evidence[0].reached
    assert [feed.label for feed in found.feeds] == ["other"]
    assert asked == ["same", "other", "never"]


def test_inputs_that_compare_nothing_do_not_count() -> None:
    """Below zero the output is NaN throughout, so those inputs say nothing of the branch."""
    model = vector("r = Relu(x) s = Sqrt(x) y = Add(r, s)")
    site = SiteProbe("", "", "x", "r")
    assert not reach(open_subject(model), [site], [fed(1, 2)], lambda: [fed(-1, -2)]).evidence[0].reached
    assert reach(open_subject(model), [site], [fed(1, 2)], lambda: [fed(-1, 2)]).evidence[0].reached


@pytest.mark.parametrize("budget", [1, 100, 1 << 20])
def test_chunks_keep_the_budget_and_give_every_value(budget: int) -> None:
    names = [f"v{index}" for index in range(1, 9)]
    body = "v0 = Neg(x) " + " ".join(f"v{index} = Neg(v{index - 1})" for index in range(1, 9)) + " y = Neg(v8)"
    subject, feed = open_subject(vector(body)), fed(*range(10))
    sizes, values = [], {}
    for chunk in chunks(subject, names, feed, provider="cpu", memory_budget=budget):
        assert not isinstance(chunk.session, RunFailure)
        found = run_session(chunk.session, feed.values, chunk.names)
        assert isinstance(found, dict)
        sizes.append(len(chunk.names))
        values.update(found)
    assert list(values) == names
    assert sizes == {1: [1] * 8, 100: [2] * 4, 1 << 20: [8]}[budget]


def test_value_that_cannot_be_observed_does_not_cost_the_others() -> None:
    subject, feed = open_subject(vector("a = Neg(x) y = Neg(a)")), fed(1)
    found = {
        chunk.names: isinstance(chunk.session, RunFailure)
        for chunk in chunks(subject, ["a", "gone", "y"], feed, provider="cpu", memory_budget=1000)
    }
    assert found == {("a",): False, ("gone",): True, ("y",): False}


def test_memory_budget_does_not_change_the_evidence() -> None:
    body = "a = Relu(x) b = Neg(a) c = Relu(b) d = Neg(x) y = Relu(d)"
    sites = [SiteProbe("", "", "x", "a"), SiteProbe("", "", "b", "c"), SiteProbe("", "", "d", "y")]
    models = [unary(body), unary(body)]
    small, large = (check(*models, sites=sites, providers=["cpu"], memory_budget=budget) for budget in (1, 1 << 30))
    assert small.sites == large.sites
    assert small.equivalent


def test_isolate_cuts_out_the_site_alone() -> None:
    model = vector("n = Neg(x) a = Constant<value_float = 0.5>() m = Mul(n, a) r = Max(n, m) y = Exp(r)")
    source = anatomy(open_subject(model))
    part = isolate(source, SiteProbe("", "", "n", "r"), 1)
    assert isinstance(part, ModelProto)
    assert [node.op_type for node in part.graph.node] == ["Constant", "Mul", "Max"]
    assert [value.name for value in part.graph.input] == ["n"]
    assert isolate(source, SiteProbe("", "", "m", "r"), 1) == "it also reads 'x'"


def test_slope_that_is_computed_from_the_inputs_is_not_run_on_its_own() -> None:
    model = net("float[4] x, float[1] s", "float[4] y", "y = PRelu(x, s)")
    other = net("float[4] x, float[1] s", "float[4] y", "p = Mul(x, s) z = Sub(x, x) y = PRelu(x, s)")
    verdict = check(model, other, sites=[SITE], providers=["cpu"])
    assert verdict.equivalent
    assert verdict.sites[0].alone == "not run: it also reads 's'"


def test_sites_on_their_own_are_run_in_their_own_shape() -> None:
    """A slope [C, 1] has to be run on [2, C, 3]; every channel is compared below and above zero."""
    slopes = "float[3, 1] slope = {0.1, %s, 0.3}"
    models = [net("float[2, 3, 3] x", "float[2, 3, 3] y", "y = PRelu(x, slope)", slopes % text) for text in ("1", "2")]
    given = {"x": np.ones((2, 3, 3), np.float32)}
    site = SiteProbe("", "", "x", "y", (0.0,), 1)
    verdict = check(*models, sites=[site], providers=["cpu"], inputs=given)
    assert verdict.outcome == "inconclusive"
    assert verdict.sites[0].alone.startswith("differs: at [0, 1, ")


def test_made_inputs_reach_a_deep_chain() -> None:
    body = " ".join(f"n{i} = Neg({f'y{i}' if i else 'x'}) y{i + 1} = LeakyRelu<alpha = 0.5>(n{i})" for i in range(20))
    model = net("float[N, 8] x", "float[N, 8] y20", body)
    sites = [SiteProbe("", "", f"n{i}", f"y{i + 1}") for i in range(20)]
    found = reach(open_subject(model), sites, [Feed("seed 0", make_inputs(model, seed=0))])
    assert all(item.reached for item in found.evidence)
