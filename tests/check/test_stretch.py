"""Sites of one model only: the part around them counts where nothing in it can hide another function."""

from __future__ import annotations

import pytest
from onnx import ModelProto

import onnxact
from onnxact.check import Verdict, check
from tests.check.models import net, unary

CONV = "float[2, 1, 1, 1] w = {1, -2}, float[2] b = {0.5, -0.5}"
FUSED = 'y = com.microsoft.FusedConv<activation = "LeakyRelu", activation_params = [0.3]>(x, w, b)'
QUANTISED = "float s = {0.05}, uint8 z = {100}, float t = {0.1}, uint8 u = {120}"
QLINEAR = "q = QuantizeLinear(x, s, z) r = com.microsoft.QLinearLeakyRelu<alpha = 0.2>(q, s, z, t, u)"


def convolved(body: str) -> ModelProto:
    return net("float[N, 1, 4, 4] x", "float[N, 2, 4, 4] y", body, CONV)


def quantised(body: str) -> ModelProto:
    return net("float[N, 8] x", "float[N, 8] y", f"{body} y = DequantizeLinear(r, t, u)", QUANTISED)


def on_cpu(before: ModelProto, after: ModelProto) -> Verdict:
    return check(before, after, providers=["cpu"])


@pytest.mark.parametrize("model", [convolved(FUSED), quantised(QLINEAR)], ids=["FusedConv", "QLinearLeakyRelu"])
def test_a_fused_node_taken_apart_is_judged_by_the_whole_part(model: ModelProto) -> None:
    changed = onnxact.decompose(model, target="onnx")
    for verdict in (changed.check(providers=["cpu"]), on_cpu(model, changed.model), on_cpu(changed.model, model)):
        assert verdict.equivalent, verdict.summary()
        assert [item.outcome for item in verdict.sites] == ["equivalent"]
        assert "is the same in both models as com.microsoft::" in verdict.sites[0].reason


def test_both_kinds_of_changes_in_one_model() -> None:
    model = convolved(FUSED.replace("y =", "f =") + " y = com.microsoft.QuickGelu(f)")
    verdict = onnxact.decompose(model, target="onnx", allow_inexact=True).check(providers=["cpu"])
    assert {item.outcome for item in verdict.sites} == {"equivalent"}
    assert len(verdict.sites) == 2


def test_another_slope_in_the_fused_node_is_no_evidence() -> None:
    apart = convolved("c = Conv(x, w, b) y = LeakyRelu<alpha = 0.3>(c)")
    assert on_cpu(convolved(FUSED), apart).equivalent
    other = on_cpu(convolved(FUSED.replace("0.3", "0.30001")), apart)
    assert (other.outcome, other.sites[0].outcome) == ("different", "inconclusive")


GATE = "m = ReduceMax<keepdims = 0>(c) k = Constant<value_float = 1e30>() g = Less(m, k) f = Neg(l)"


def test_a_condition_in_the_part_is_turned_and_no_evidence_for_the_site() -> None:
    gated = convolved(f"c = Conv(x, w, b) l = LeakyRelu<alpha = 0.3>(c) {GATE} y = Where(g, l, f)")
    for pair in ((convolved(FUSED), gated), (gated, convolved(FUSED))):
        verdict = on_cpu(*pair)
        assert verdict.outcome == "different", verdict.summary()
        assert all(item.outcome != "equivalent" for item in verdict.sites)


def test_a_part_that_works_element_by_element_is_run_on_its_own() -> None:
    before = unary("r = Relu(x) y = Neg(r)")
    same = "z = Constant<value_float = 0.0>() m = Neg(x) y = Min(m, z)"
    assert on_cpu(before, unary(same)).equivalent
    hidden = f"{same.replace('y =', 'n =')} k = Constant<value_float = 1e30>() g = Less(x, k) y = Where(g, n, z)"
    assert on_cpu(before, unary(hidden)).outcome == "different"


def test_what_a_site_is_on_its_own_is_not_lost() -> None:
    """The part around a site says nothing against the site itself, which is another function."""
    before = unary("a = Abs(x) b = Neg(a) [act] r = Relu(b) y = Identity(r)")
    verdict = on_cpu(before, unary("a = Abs(x) b = Neg(a) r = Identity(b) y = Identity(r)"))
    (site,) = verdict.sites
    assert (verdict.outcome, site.outcome) == ("different", "different")
    assert "on its own it differs" in site.differs
