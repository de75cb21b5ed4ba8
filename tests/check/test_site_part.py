"""cut_out: the nodes of one site as a part, whatever its values are called; joined: many parts in one model."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto

from onnxact.check.placing import Instance
from onnxact.check.scopes import Chain, Level
from onnxact.check.session import Session, open_session, run_session
from onnxact.check.site_part import Part, common_shape, cut_out, joined
from onnxact.check.subject import open_subject
from tests.check.models import net


def instance(model: ModelProto, entering: str, leaving: str) -> Instance:
    return Instance(Chain((Level(model.graph),)), (entering, leaving))


def vector(body: str, weights: str = "") -> ModelProto:
    return net("float[N] x", "float[N] y", body, weights)


def part(model: ModelProto, entering: str, leaving: str) -> Part:
    found = cut_out(instance(model, entering, leaving))
    assert isinstance(found, Part), found
    return found


def test_the_site_alone_is_cut_out_makers_first() -> None:
    model = vector("n = Neg(x) a = Constant<value_float = 0.5>() m = Mul(n, a) r = Max(n, m) y = Exp(r)")
    found = part(model, "n", "r")
    assert [node.op_type for node in found.nodes] == ["Constant", "Mul", "Max"]
    assert found.nodes[-1].output[0] == "y"
    assert found.foreign == ""
    assert cut_out(instance(model, "m", "r")) == "it also reads 'x'"


def test_parts_that_compute_alike_are_equal() -> None:
    body = "{0}n = Neg(x) [{0}] {0}m = Mul({0}n, {0}w) {0}r = Max({0}n, {0}m) y = Exp({0}r)"
    first, second, third = (
        part(vector(body.format(name), f"float[1] {name}w = {{{value}}}"), f"{name}n", f"{name}r")
        for name, value in (("a", 0.5), ("b", 0.5), ("c", 0.25))
    )
    assert first.key == second.key
    assert first.key != third.key


def test_operands_in_another_order_are_another_part() -> None:
    first, second = (
        part(vector(f"m = Mul(x, w) y = Sub({a}, {b})", "float[1] w = {0.5}"), "x", "y") for a, b in ("xm", "mx")
    )
    assert first.key != second.key


def test_what_does_not_stand_alone() -> None:
    branches = "then_branch = t () => (float a) { a = Neg(x) }, else_branch = e () => (float b) { b = Abs(x) }"
    inside = net("float[N] x, bool c", "float[N] y", f"i = If (c) <{branches}> y = Add(x, i)")
    assert "holds a body" in str(cut_out(instance(inside, "x", "y")))
    assert cut_out(instance(vector("y = Relu(x)"), "x", "gone")) == "there is no value 'gone'"
    assert part(vector("s = Reshape(x, shape) y = Add(x, s)", "int64[1] shape = {-1}"), "x", "y").foreign == "Reshape"


def test_constants_of_several_shapes() -> None:
    model = vector("m = Mul(x, w) y = Max(x, m)", "float[3, 1] w = {1, 2, 3}")
    assert common_shape([part(model, "x", "y")]) == (3, 1)
    assert common_shape([part(vector("y = Relu(x)"), "x", "y")]) == ()
    other = part(vector("y = Mul(x, w)", "float[2] w = {1, 2}"), "x", "y")
    assert common_shape([part(model, "x", "y"), other]) == (3, 2)
    assert common_shape([other, part(vector("y = Mul(x, w)", "float[3] w = {1, 2, 3}"), "x", "y")]) is None


def test_joined_parts_run_side_by_side() -> None:
    model = vector("m = Mul(x, w) y = Max(x, m)", "float[1] w = {0.5}")
    other = vector("y = Neg(x)")
    parts = [part(model, "x", "y"), part(other, "x", "y"), part(model, "x", "y")]
    subject = joined(open_subject(model), parts, [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT])
    session = open_session(subject, "cpu", optimise=False)
    assert isinstance(session, Session)
    x = np.array([-2.0, 4.0], np.float32)
    found = run_session(session, {"x0": x, "x1": x.astype(np.float64), "x2": x[:1]})
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["y0"], [-1, 4])
    np.testing.assert_array_equal(found["y1"], [2, -4])
    np.testing.assert_array_equal(found["y2"], [-1])


def test_a_body_sees_the_constants_around_it() -> None:
    yes = "then_branch = t () => (float a) { m = Mul(x, w) a = Max(x, m) }"
    branches = f"{yes}, else_branch = e () => (float b) {{ b = Abs(x) }}"
    model = net("float[N] x, bool c", "float[N] y", f"y = If (c) <{branches}>", "float[1] w = {0.5}")
    body = next(a.g for a in model.graph.node[0].attribute if a.name == "then_branch")
    chain = Chain((Level(body), Level(model.graph)))
    found = cut_out(Instance(chain, ("x", "a")))
    assert isinstance(found, Part)
    assert [node.op_type for node in found.nodes] == ["Mul", "Max"]
    assert len(found.stored) == 1
