"""Nodes -> form: however operands are ordered and products parenthesised, and what is only nearly a form."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import Call, x
from onnxact.activation.forms import find_form
from onnxact.model.view import View
from onnxact.rewrite import find as find_module
from onnxact.rewrite import match as match_module
from onnxact.rewrite.find import find
from onnxact.rewrite.match import could_be
from tests.laws.models import node_cases
from tests.rewrite.texts import found, net, reasons, sites

ABS = "float p = {1.5}, float q = {-0.5}"


@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_operands_of_commutative_ops_match_in_either_order(flips: tuple[bool, ...]) -> None:
    pairs = [("x", "p"), ("b", "q"), ("a", "c")]
    first, second, last = [", ".join(reversed(pair) if flip else pair) for pair, flip in zip(pairs, flips, strict=True)]
    model = net(f"  a = Mul ({first})\n  b = Abs (x)\n  c = Mul ({second})\n  y = Add ({last})", ABS)
    assert [(s.activation, s.form, s.parameters) for s in sites(model)] == [
        ("leaky_relu", "mul-abs-add", {"alpha": 2.0})
    ]


@pytest.mark.parametrize("order", list(permutations(("x", "half", "gate"))))
@pytest.mark.parametrize("left", [True, False])
def test_products_match_however_they_are_parenthesised(order: tuple[str, str, str], left: bool) -> None:
    a, b, c = order
    products = f"  p = Mul ({a}, {b})\n  y = Mul (p, {c})" if left else f"  p = Mul ({b}, {c})\n  y = Mul ({a}, p)"
    gate = "  r = Div (x, root)\n  e = Erf (r)\n  gate = Add (one, e)\n"
    model = net(gate + products, "float root = {1.4142135381698608}, float one = {1}, float half = {0.5}")
    assert found(model) == [("gelu", "erf")]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("  y = Max (x, zero)", "float zero = {0}"),
        ("  y = Max (x, zero)", "float[1,1,1] zero = {0}"),
        ("  zero = Constant <value_float = 0.0> ()\n  y = Max (zero, x)", ""),
        ("  zero = Constant <value = float[1] {0}> ()\n  y = Max (zero, x)", ""),
        ("  z = Constant <value = int64[1] {0}> ()\n  zero = Cast <to = 1> (z)\n  y = Max (x, zero)", ""),
        ("  z = Constant <value = int64[1] {0}> ()\n  zero = CastLike (z, x)\n  y = Max (x, zero)", ""),
        ("  z = Constant <value_float = 0.0> ()\n  zero = Identity (z)\n  y = Max (x, zero)", ""),
        ("  i = Identity (zero)\n  j = Identity (i)\n  y = Max (x, j)", "float zero = {0}"),
        ("  y = Clip (x, zero)", "float zero = {0}"),
        ("  b = Abs (x)\n  a = Add (x, b)\n  y = Div (a, two)", "float two = {2}"),
        ("  n = Neg (x)\n  b = Max (x, n)\n  a = Add (b, x)\n  y = Mul (a, half)", "float half = {0.5}"),
    ],
)
def test_relu_in_its_spellings(body: str, weights: str) -> None:
    model = net(body, weights)
    assert [activation for activation, _ in found(model)] == ["relu"]
    after = onnxact.swap_relu(model, alpha=0.2).proto
    assert [(node.op_type, list(node.input)) for node in after.graph.node] == [("LeakyRelu", ["x"])]
    assert not after.graph.initializer


NEAR = [
    (
        "  r = Div (x, root)\n  e = Erf (r)\n  g = Add (one, e)\n  h = Mul (x, g)\n  y = Mul (h, half)",
        "float root = {1.4142}, float one = {1}, float half = {0.5}",
        "gelu",
        "its constant 1.41419995 is not 1.414213562 = 1.41421354 in float32",
    ),
    (
        "  a = Add (x, three)\n  b = Clip (a, lo, hi)\n  c = Mul (x, b)\n  y = Div (c, hi)",
        "float three = {3}, float lo = {0}, float hi = {6.01}",
        "hard_swish",
        "is not 6 = 6 in float32",
    ),
    ("  g = Sigmoid (x)\n  y = Mul (x, g)\n  z = Neg (g)", "", "swish", "its inner value 'g' is also read by Neg"),
]


@pytest.mark.parametrize(("body", "weights", "activation", "reason"), NEAR)
def test_near_misses_say_why(body: str, weights: str, activation: str, reason: str) -> None:
    model = net(body, weights)
    assert activation not in [name for name, _ in found(model)]
    assert any(activation in text and reason in text for text in reasons(model)), reasons(model)
    assert onnxact.fuse(model).proto.SerializeToString() == net(body, weights).SerializeToString()


def test_an_inner_value_that_is_an_output_stays() -> None:
    model = net("  g = Sigmoid (x)\n  y = Mul (x, g)", opset=24)
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "g"
    assert found(model) == [("sigmoid", "op")]
    assert any("'g' is an output" in reason for reason in reasons(model))


def test_an_inner_value_that_a_subgraph_reads_stays() -> None:
    model = net(
        "  g = Sigmoid (x)\n  h = Mul (x, g)\n"
        "  y = If (c) <then_branch = t () => (float[2,3,4] a) { a = Neg (g) }, "
        "else_branch = e () => (float[2,3,4] b) { b = Neg (h) }>",
        more="bool c",
        opset=24,
    )
    assert found(model) == [("sigmoid", "op")]
    assert any("swish" in reason and "is also read by If" in reason for reason in reasons(model))


def test_two_different_inputs_are_no_activation() -> None:
    assert found(net("  g = Sigmoid (z)\n  y = Mul (x, g)", more="float[2,3,4] z")) == [("sigmoid", "op")]


def test_a_constant_that_changes_the_shape_is_no_activation() -> None:
    model = net("  h = Max (x, zero)\n  y = ReduceSum (h)", "float[5,1,1,1] zero = {0, 0, 0, 0, 0}")
    assert found(model) == []
    assert any("changes the shape" in reason for reason in reasons(model))


def test_a_bound_with_dimensions_becomes_a_scalar() -> None:
    """Max(x, c) with c of shape [1,1,1] -> Clip(x, c): Clip takes no bound with three dimensions."""
    fused = onnxact.fuse(net("  y = Max (x, c)", "float[1,1,1] c = {-0.5}")).proto
    assert fused.graph.node[0].op_type == "Clip"
    assert [list(tensor.dims) for tensor in fused.graph.initializer] == [[]]


def test_the_larger_site_owns_the_node() -> None:
    model = net("  s = Softplus (x)\n  t = Tanh (s)\n  y = Mul (x, t)", opset=22)
    assert found(model) == [("mish", "tanh-softplus")]


def test_an_op_matches_where_one_of_its_forms_stands() -> None:
    body = "  r = Relu (x)\n  n = Neg (x)\n  s = Relu (n)\n  b = Add (r, s)\n  d = Add (b, one)\n  y = Div (x, d)"
    assert found(net(body, "float one = {1}")) == [("softsign", "abs")]


@pytest.mark.parametrize("name", [name for name, row in ACTIVATIONS.items() if row.native is not None])
def test_every_form_is_recognised_as_it_is_written(name: str) -> None:
    """Emit, then match: what comes out of decompose without provenance is the activation again, or an equal one."""
    row = ACTIVATIONS[name]
    for form in row.forms:
        for before in _natives(name):
            result = (
                onnxact.decompose(before, form=form, activations=[name], provenance=False) if form != "op" else None
            )
            if result is None or not result.changed or result.sites[0].site.activation != name:
                continue
            again = onnxact.inspect(result.proto)
            whole = [site for site in again.sites if site.output == before.graph.output[0].name]
            assert whole or again.skipped, (name, form)


def _natives(name: str) -> list[ModelProto]:
    cases = [model for case, model in node_cases().items() if "expanded" not in case]
    native = ACTIVATIONS[name].native
    return [m for m in cases if native and len(m.graph.node) == 1 and m.graph.node[0].op_type == native.op]


def test_forms_by_derived_names_are_recognised() -> None:
    form = find_form(ACTIVATIONS["softplus"], "stable[abs=relu]")
    assert form.expr != ACTIVATIONS["softplus"].forms["stable"].expr
    model = net("  y = Softplus (x)")
    written = onnxact.decompose(model, form="stable[abs=relu]", provenance=False).proto
    assert found(written) == [("softplus", "stable")]


FUNCTION_BODIES = {
    "test_leakyrelu_expanded": "leaky_relu",
    "test_prelu_example_expanded": "prelu",
    "test_thresholdedrelu_expanded_ver18": "thresholded_relu",
    "test_elu_expanded_ver18": "elu",
    "test_selu_expanded_ver18": "selu",
    "test_softplus_expanded_ver18": "softplus",
    "test_softsign_expanded_ver18": "softsign",
    "test_hardsigmoid_expanded_ver18": "hard_sigmoid",
    "test_hardswish_expanded": "hard_swish",
    "test_mish_expanded": "mish",
    "test_relu_expanded_ver18": "relu",
    "test_swish_expanded": "swish",
}
"""onnx's own function bodies: an independent way of writing each activation. Gelu's (Sum, Sqrt) is not."""


@pytest.mark.parametrize(("case", "activation"), list(FUNCTION_BODIES.items()))
def test_onnx_s_function_bodies_are_recognised(case: str, activation: str) -> None:
    model = node_cases()[case]
    whole = [s.activation for s in sites(model) if s.output == model.graph.output[0].name]
    assert whole == [activation], reasons(model)


def test_below_opset_7_only_native_ops_are_looked_for() -> None:
    model = net("  a = Relu (x)\n  y = Max (a, x)", opset=6)
    assert found(model) == [("relu", "op")]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_strange_constants_are_no_form(value: float) -> None:
    node = helper.make_node("Constant", [], ["c"], value_float=value)
    model = net("  a = Mul (x, x)\n  y = Max (x, a)")
    _replace_first(model, node)
    assert found(model) == [] or found(model)[0][0] == "clip"
    onnxact.fuse(model)


@pytest.mark.parametrize("chunk", range(4))
def test_what_makes_the_operands_only_spares_matches_that_fail(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over onnx's backend node tests, the function bodies of its activations among them."""
    models = [
        model for name, model in sorted(node_cases().items()) if name.endswith("_expanded_ver18") or "elu" in name
    ]
    assert len(models) > 20
    for model in models[chunk::4]:
        quick = find(View(model))
        with monkeypatch.context() as patch:
            for module in (find_module, match_module):
                patch.setattr(module, "could_be", lambda _expr, _made_by: True)
            thorough = find(View(model))
        assert [(s.activation, s.form, s.root, s.inner) for s in quick.sites] == [
            (s.activation, s.form, s.root, s.inner) for s in thorough.sites
        ]
        assert (quick.skips, quick.refused) == (thorough.skips, thorough.refused)


def test_a_sum_of_very_many_is_looked_at_quickly() -> None:
    names = [f"a{number}" for number in range(3000)]
    body = "".join(f"  {name} = Abs (x)\n" for name in names)
    assert found(net(f"{body}  y = Sum ({', '.join(names)})")) == []
    assert not could_be(Call("Add", (Call("Abs", (x,)), Call("Abs", (x,)))), ("Abs",) * 3000)


def _replace_first(model: ModelProto, node: Any) -> None:
    model.graph.node[0].CopyFrom(node)
    model.graph.node[1].input[1] = "c"
