"""Pairing: the sites of two models of which nothing is known."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, numpy_helper

from onnxact.check import SiteProbe, check
from onnxact.check.pairing import Pairing
from onnxact.check.site_evidence import Meaning
from onnxact.check.subject import open_subject
from tests.check.models import LEAKY, MUL_MAX, RELU, net, unary


def paired(before: ModelProto, after: ModelProto) -> tuple[SiteProbe, ...]:
    return Pairing(open_subject(before), open_subject(after)).probes()


def forms(probe: SiteProbe) -> tuple[str | None, str | None]:
    first, second = (None if item is None else f"{item.activation} {item.form}" for item in (probe.before, probe.after))
    return first, second


def test_two_forms_of_one_site() -> None:
    (probe,) = paired(unary(LEAKY), unary(MUL_MAX))
    assert forms(probe) == ("leaky_relu op", "leaky_relu mul-max")
    assert (probe.input, probe.output, probe.kinks, probe.only_in) == ("x", "y", (0.0,), "")


def test_another_parameter_is_the_same_site() -> None:
    (probe,) = paired(unary(LEAKY), unary("y = LeakyRelu<alpha = 0.201>(x)"))
    assert probe.before is not None
    assert probe.after is not None
    assert (str(probe.before), str(probe.after)) == ("leaky_relu(alpha = 0.2)", "leaky_relu(alpha = 0.201)")


def test_constants_that_leave_the_parameter_open_are_held_against_that_of_before() -> None:
    """The Abs form does not determine its slope; with the slope of before its constants fit, or they do not."""
    alpha = np.float32(0.01)
    p, q = ((1 + np.float64(alpha)) / 2).astype(np.float32), ((1 - np.float64(alpha)) / 2).astype(np.float32)
    body = "px = Mul(x, p) b = Abs(x) qb = Mul(b, q) y = Add(px, qb)"
    before = unary("y = LeakyRelu<alpha = 0.01>(x)")
    for first, form in ((p, "leaky_relu mul-abs-add"), (p + np.float32(1e-3), None)):
        after = unary(body)
        after.graph.initializer.extend(
            numpy_helper.from_array(np.array([value], np.float32), name) for name, value in (("p", first), ("q", q))
        )
        (probe,) = paired(before, after)
        assert forms(probe) == ("leaky_relu op", form)


def test_unrecognised_nodes_are_one_site_with_the_recognised_one() -> None:
    """Relu(x) - a Relu(x) for Relu(x) - a Relu(-x): its Relu is no site of its own."""
    wrong = "r = Relu(x) m = Mul(r, a) y = Sub(r, m)"
    weights = "float[1] a = {0.2}"
    (probe,) = paired(unary(LEAKY), net("float[N, 8] x", "float[N, 8] y", wrong, weights))
    assert forms(probe) == ("leaky_relu op", None)
    (probe,) = paired(net("float[N, 8] x", "float[N, 8] y", wrong, weights), unary(LEAKY))
    assert forms(probe) == (None, "leaky_relu op")
    assert (probe.scope, probe.input, probe.output) == ("", "x", "y")


def test_sites_in_one_model_only() -> None:
    before = unary("a = Relu(x) b = Neg(a) y = Relu(b)")
    after = unary("a = Relu(x) c = Exp(a) d = Relu(c) y = Neg(d)")
    found = {probe.output: probe.only_in for probe in paired(before, after)}
    assert found["a"] == ""
    assert found["d"] == "after"
    assert found.get("y", "before") in {"", "before"}


def test_sites_are_paired_by_node_name_where_values_are_renamed() -> None:
    before = unary("n = Neg(x) [act] r = Relu(n) y = Exp(r)")
    after = unary("v1 = Neg(x) [act] v2 = Relu(v1) y = Exp(v2)")
    (probe,) = paired(before, after)
    assert (probe.names("before"), probe.names("after")) == (("n", "r"), ("v1", "v2"))


def test_sites_are_paired_by_structure_where_nothing_has_a_name() -> None:
    before = unary("n = Neg(x) r = LeakyRelu<alpha = 0.2>(n) y = Exp(r)")
    after = unary("v1 = Neg(x) v2 = LeakyRelu<alpha = 0.2>(v1) y = Exp(v2)")
    (probe,) = paired(before, after)
    assert (probe.names("before"), probe.names("after")) == (("n", "r"), ("v1", "v2"))


def test_bodies_are_paired_by_what_holds_them() -> None:
    """The node that holds the body stands at another position in the second model."""
    other = "else_branch = e () => (float[8] b) { b = Neg(x) }"
    body = f"y = If (c) <then_branch = t () => (float[8] a) {{ a = Relu(x) }}, {other}>"
    before = net("float[8] x, bool c", "float[8] y", body)
    after = net("float[8] x, bool c", "float[8] y", f"z = Exp(x) {body}")
    (probe,) = paired(before, after)
    assert probe.scope == "/If#0.then_branch"
    pairing = Pairing(open_subject(before), open_subject(after))
    assert pairing.paths["/If#0.then_branch"] == "/If#1.then_branch"


def test_random_sites_and_integers_are_none() -> None:
    noisy = unary("n = RandomNormalLike(x) s = Add(x, n) y = Relu(s)")
    assert paired(noisy, unary(RELU)) == ()
    integers = net("int32[4] x", "int32[4] y", "y = Relu(x)")
    assert paired(integers, integers) == ()


def test_a_site_named_by_its_values_is_completed() -> None:
    pairing = Pairing(open_subject(unary(LEAKY)), open_subject(unary(MUL_MAX)))
    found = pairing.completed(SiteProbe("", "", "x", "y"))
    assert forms(found) == ("leaky_relu op", "leaky_relu mul-max")
    unknown = pairing.completed(SiteProbe("", "", "x", "gone"))
    assert forms(unknown) == (None, None)
    own = Meaning("relu", "op")
    assert pairing.completed(SiteProbe("", "", "x", "y", before=own)).before is own


def test_equal_sites_of_which_one_is_left() -> None:
    """Two LeakyRelus of one value, merged: both are the one that is left; and the other way round."""
    two = unary("a = LeakyRelu<alpha = 0.2>(x) b = LeakyRelu<alpha = 0.2>(x) p = Sin(a) q = Cos(b) y = Mul(p, q)")
    one = unary("a = LeakyRelu<alpha = 0.2>(x) p = Sin(a) q = Cos(a) y = Mul(p, q)")
    other = unary("a = LeakyRelu<alpha = 0.2>(x) b = LeakyRelu<alpha = 0.3>(x) p = Sin(a) q = Cos(b) y = Mul(p, q)")
    for before, after in ((two, one), (one, two)):
        probes = paired(before, after)
        assert [forms(probe) for probe in probes] == [("leaky_relu op", "leaky_relu op")] * 2
        assert not any(probe.only_in for probe in probes)
        verdict = check(before, after, providers=["cpu"])
        assert verdict.equivalent, verdict.summary()
    for before, after in ((other, one), (one, other)):
        assert check(before, after, providers=["cpu"]).outcome == "different"
