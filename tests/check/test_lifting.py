"""place and lift: the values of sites in bodies and functions, as values of the main graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from onnxact.check import SiteProbe
from onnxact.check.lifting import lift
from onnxact.check.placing import place
from onnxact.check.session import Session, open_session, run_session
from onnxact.check.subject import open_subject
from onnxact.model.view import View
from tests.check.models import net

X = np.array([-1.0, 2.0, -3.0, 4.0], np.float32)
BRANCHES = """
    y = If (c) <
        then_branch = yes () => (float[4] a) { a = Relu(x) },
        else_branch = no () => (float[4] b) { b = Abs(x) }
    >
"""
LOOP = """
    t = Constant<value = int64 {3}>() on = Constant<value = bool {1}>()
    y = Loop (t, on, x) <body = b (int64 i, bool ci, float[4] v) => (bool co, float[4] o) {
        co = Identity(ci) n = Neg(v) o = Relu(n)
    }>
"""
SOMETIMES = """
    t = Constant<value = int64 {3}>() on = Constant<value = bool {1}>()
    y = Loop (t, on, x) <body = b (int64 i, bool ci, float[4] v) => (bool co, float[4] o) {
        co = Identity(ci) two = Constant<value = int64 {2}>() m = Mod(i, two) odd = Cast<to = 9>(m)
        o = If (odd) <
            then_branch = yes () => (float[4] a) { a = Relu(v) },
            else_branch = no () => (float[4] d) { d = Neg(v) }
        >
    }>
"""
SCAN = """
    z = Constant<value = float {0}>()
    s, y = Scan <num_scan_inputs = 1, body = b (float st, float v) => (float so, float o) {
        so = Add(st, v) o = Relu(v)
    }> (z, x)
"""
FUNCTION = '<opset_import: ["" : 18], domain: "local"> act (u) => (v) { n = Neg(u) v = Relu(n) }'


def scope_with(model: ModelProto, output: str) -> str:
    return next(scope.path for scope in View(model).scopes if output in scope.producers)


def seen(model: ModelProto, names: tuple[str, str], feed: dict[str, Any]) -> list[tuple[Any, Any]]:
    """What entered and left the site in each place where it is computed."""
    probe = SiteProbe(scope_with(model, names[1]), "", *names)
    placed = place(open_subject(model), [probe], {probe.scope: probe.scope}, "before")
    assert not placed.problems
    lifted = lift(placed, {probe}, {probe: TensorProto.FLOAT})
    assert not lifted.problems
    values = [name for pair in lifted.names[probe] for name in pair]
    session = open_session(lifted.subject, "cpu", optimise=False, extra_outputs=values)
    assert isinstance(session, Session), session
    found = run_session(session, feed, ["y", *values])
    assert isinstance(found, dict), found
    plain = open_session(open_subject(model), "cpu", optimise=False)
    assert isinstance(plain, Session)
    expected = run_session(plain, feed)
    assert isinstance(expected, dict)
    np.testing.assert_array_equal(found["y"], expected["y"])
    return [(found[entering], found[leaving]) for entering, leaving in lifted.names[probe]]


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_a_branch_gives_its_values_where_it_is_taken(opset: int) -> None:
    model = net("float[4] x, bool c", "float[4] y", BRANCHES, opset=opset)
    (entering, leaving) = seen(model, ("x", "a"), {"x": X, "c": np.array(True)})[0]
    np.testing.assert_array_equal(np.ravel(entering), X)
    np.testing.assert_array_equal(np.ravel(leaving), np.maximum(X, 0))
    (entering, leaving) = seen(model, ("x", "a"), {"x": X, "c": np.array(False)})[0]
    assert np.size(entering) == np.size(leaving) == 0


@pytest.mark.parametrize("opset", [11, 13])
def test_every_iteration_of_a_loop_is_seen(opset: int) -> None:
    model = net("float[4] x", "float[4] y", LOOP, opset=opset)
    (entering, leaving) = seen(model, ("n", "o"), {"x": X})[0]
    assert len(entering) == len(leaving) == 3
    np.testing.assert_array_equal(entering[0], -X)
    np.testing.assert_array_equal(leaving[0], np.maximum(-X, 0))


def test_a_branch_that_some_iterations_take() -> None:
    (entering, leaving) = seen(net("float[4] x", "float[4] y", SOMETIMES), ("v", "a"), {"x": X})[0]
    assert len(entering) == len(leaving) == 1
    np.testing.assert_array_equal(entering[0], -X)


@pytest.mark.parametrize("opset", [11, 18])
def test_every_step_of_a_scan_is_seen(opset: int) -> None:
    (entering, leaving) = seen(net("float[4] x", "float[4] y", SCAN, opset=opset), ("v", "o"), {"x": X})[0]
    np.testing.assert_array_equal(np.ravel(entering), X)
    np.testing.assert_array_equal(np.ravel(leaving), np.maximum(X, 0))


def test_a_function_is_seen_in_every_call() -> None:
    body = """
        a = local.act(x)
        y = If (c) <
            then_branch = yes () => (float[4] p) { p = local.act(a) },
            else_branch = no () => (float[4] q) { q = Neg(a) }
        >
    """
    model = net("float[4] x, bool c", "float[4] y", body, functions=FUNCTION, ir=10)
    first, second = seen(model, ("n", "v"), {"x": X, "c": np.array(True)})
    np.testing.assert_array_equal(np.ravel(first[0]), -X)
    np.testing.assert_array_equal(np.ravel(second[0]), -np.maximum(-X, 0))


def test_main_graph_values_need_no_copy() -> None:
    model = net("float[4] x", "float[4] y", "n = Neg(x) y = Relu(n)")
    probe = SiteProbe("", "", "n", "y")
    subject = open_subject(model)
    placed = place(subject, [probe], {}, "before")
    assert lift(placed, {probe}, {}).subject is subject


def test_weights_are_still_there_and_the_model_is_not_touched() -> None:
    model = net(
        "float[4] x, bool c",
        "float[4] y",
        f"m = Mul(x, w) {BRANCHES.replace('Relu(x)', 'Relu(m)')}",
        "float[4] w = {1, 2, 3, 4}",
    )
    content = model.SerializeToString()
    (entering, _) = seen(model, ("m", "a"), {"x": X, "c": np.array(True)})[0]
    np.testing.assert_array_equal(np.ravel(entering), X * np.array([1, 2, 3, 4]))
    assert model.SerializeToString() == content


def test_what_cannot_be_found() -> None:
    model = net("float[4] x, bool c", "float[4] y", BRANCHES)
    scope = scope_with(model, "a")
    probes = [
        SiteProbe("", "", "gone", "y"),
        SiteProbe("no such scope", "", "x", "a"),
        SiteProbe(scope, "", "gone", "a"),
    ]
    placed = place(open_subject(model), probes, {scope: scope, "no such scope": "no such scope"}, "before")
    assert [placed.problems[probe] for probe in probes] == [
        "the model has no value 'gone'",
        "there is no scope 'no such scope'",
        f"{scope} has no value 'gone'",
    ]


def test_a_function_that_nothing_calls_is_nowhere() -> None:
    model = net("float[4] x", "float[4] y", "y = Neg(x)", functions=FUNCTION, ir=10)
    probe = SiteProbe("local:act", "", "n", "v")
    placed = place(open_subject(model), [probe], {"local:act": "local:act"}, "before")
    assert placed.instances[probe] == ()
