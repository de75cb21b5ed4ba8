"""What a verb must leave alone, or must not call exact: each case once changed a model's meaning unseen."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.numeric import evaluate, holds
from onnxact.errors import UsageError
from onnxact.rewrite.site import known

from .texts import net, sites

X = np.concatenate([-np.geomspace(1e-3, 40, 40), np.geomspace(1e-3, 40, 40)]).astype(np.float32)
PARAMETERS = {
    "softplus": [{"beta": 2.0}, {"beta": 2.0, "threshold": 20.0}, {"threshold": 20.0}],
    "swish": [{"beta": 1.5}],
    "celu": [{"alpha": 2.0}],
    "hard_sigmoid": [{"alpha": 0.5, "beta": 0.25}],
    "clip": [{"min": -1.0, "max": 2.0}],
    "thresholded_relu": [{"alpha": 0.75}],
}


@pytest.mark.parametrize(
    ("name", "parameters"), [(name, some) for name, several in PARAMETERS.items() for some in several]
)
def test_a_tree_is_fused_into_an_op_only_where_the_op_means_the_same(name: str, parameters: dict[str, float]) -> None:
    swapped = onnxact.swap_relu(net("y = Relu(x)", opset=24), to=name, parameters=parameters)
    fused = onnxact.fuse(swapped.model).model
    row = ACTIVATIONS[name]
    found = sites(fused)
    values = {param.name: parameters.get(param.name, param.default) for param in row.params}
    assert [site.activation for site in found] == [name]
    assert known(found[0].parameters) == pytest.approx(values)
    form = row.forms[found[0].form]
    assert holds(form.when, values)
    with np.errstate(all="ignore"):
        assert np.allclose(evaluate(form.expr, X, values), row.reference(X.astype(float), **values), atol=1e-5)


def test_nodes_of_a_decomposed_site_are_not_sites_of_their_own() -> None:
    leaky = net("y = LeakyRelu<alpha = 0.2>(x)")
    tree = onnxact.decompose(leaky, form="mul-abs-add[abs=relu]").model
    result = onnxact.swap_relu(tree, alpha=0.5)
    assert not result.sites
    assert all("decomposed before" in skip.reason for skip in result.skipped)
    assert [(site.activation, site.form) for site in sites(tree)] == [("leaky_relu", "mul-abs-add[abs=relu]")]


def test_a_part_of_a_tree_that_cannot_go_is_swapped_only_when_named() -> None:
    model = net("p = Relu(x)\nn = Neg(x)\nq = Relu(n)\ns = Mul(a, q)\ny = Sub(p, s)\nz = Abs(s)", "float a = {0.2}")
    result = onnxact.swap_relu(model, alpha=0.5)
    assert not result.sites
    assert all("relu (relu-neg)" in skip.reason for skip in result.skipped)


def double(op: str, constant: float) -> ModelProto:
    nodes = [helper.make_node("Mul", ["c", "x"], ["t"]), helper.make_node(op, ["x", "t"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "double",
        [value("x", TensorProto.DOUBLE, [4])],
        [value("y", TensorProto.DOUBLE, [4])],
        [helper.make_tensor("c", TensorProto.DOUBLE, [1], [constant])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_double_that_no_attribute_holds_stays_where_it_is() -> None:
    refused = onnxact.fuse(double("Max", 0.1))
    assert not refused.sites
    assert "no float32 number" in refused.skipped[0].reason
    assert onnxact.fuse(double("Max", 0.25)).sites[0].exact


def test_noise_of_another_shape_is_not_taken_out() -> None:
    model = net("n = RandomNormal<shape = [3, 4]>()\ns = Add(x, n)\ny = Relu(s)", shape="float[1,4]")
    assert not onnxact.swap(model, "noisy_relu", "relu").sites


@pytest.mark.parametrize(
    ("to", "has_effect"), [("leaky_relu", False), ("prelu", False), ("gelu", True), ("relu6", True)]
)
def test_a_quantiser_that_clips_hides_only_what_is_below_zero(to: str, has_effect: bool) -> None:
    body = "r = Relu(x)\nq = QuantizeLinear(r, s, p)\ny = DequantizeLinear(q, s, p)"
    model = net(body, "float s = {0.1}, uint8 p = {0}", opset=20)
    assert bool(onnxact.swap_relu(model, to=to).sites) is has_effect


def test_a_form_with_special_inputs_is_not_said_to_keep_the_bits() -> None:
    body = "z = Constant<value_float = 0.0>()\nc = Greater(x, z)\ny = Where(c, x, z)"
    assert onnxact.fuse(net(body)).sites[0].exact is False
    chosen = onnxact.decompose(net("y = ThresholdedRelu<alpha = 1.0>(x)"), ops=["Mul", "Cast", "Greater"])
    assert chosen.sites[0].exact is False
    assert "-inf" in chosen.sites[0].note


def test_clip_without_a_bound_below_opset_11_is_not_exactly_relu() -> None:
    assert onnxact.fuse(net("y = Clip<min = 0.0>(x)", opset=10)).sites[0].exact is False


@pytest.mark.parametrize("parameters", [{"aplha": 0.2}, {"alpha": float("nan")}])
def test_fuse_refuses_parameters_that_nothing_has(parameters: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        onnxact.fuse(net("y = Relu(x)"), parameters=parameters)


def test_slopes_on_unknown_dimensions_are_a_reason_and_a_list_is_no_slope_of_leaky_relu() -> None:
    model = net("y = Relu(x)", shape="float[N,C,H,W]")
    result = onnxact.swap_relu(model, to="prelu", parameters={"slope": np.ones((3, 1, 1), np.float32)})
    assert "not known" in result.skipped[0].reason
    with pytest.raises(UsageError):
        onnxact.swap(model, "relu", "leaky_relu", parameters={"alpha": np.array([0.1, 0.2])})


def test_binary_ops_that_broadcast_by_attribute_are_not_matched() -> None:
    add = helper.make_node("Add", ["e", "one"], ["s"], broadcast=1)
    nodes = [helper.make_node("Exp", ["x"], ["e"]), add, helper.make_node("Log", ["s"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "old",
        [value("x", TensorProto.FLOAT, [4])],
        [value("y", TensorProto.FLOAT, [4])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=4)
    assert not onnxact.fuse(model).sites


def test_onnx_text_stays_onnx_text(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "net.onnxtxt"
    path.write_text(onnx.printer.to_text(net("y = Relu(x)")))
    written = onnxact.swap_relu(path, alpha=0.25).model
    assert onnx.parser.parse_model(Path(written).read_text()).graph.node[0].op_type == "LeakyRelu"


@pytest.mark.parametrize("alpha", [float("inf"), float("-inf"), float("nan")])
def test_a_slope_that_is_not_finite_has_no_form(alpha: float) -> None:
    model = net("y = LeakyRelu<alpha = 2.0>(x)")
    model.graph.node[0].attribute[0].f = alpha
    result = onnxact.decompose(model)
    assert not result.sites
    assert ("is not" if np.isnan(alpha) else "not finite") in result.skipped[0].reason


@pytest.mark.parametrize(
    ("to", "parameters"),
    [
        ("hard-tanh", {"min": -1.0, "max": 1.0}),
        ("quickgelu", {"beta": float(np.float32(1.702))}),
        ("silu", {"beta": 1}),
    ],
)
def test_a_swap_to_a_second_name_has_its_parameters(to: str, parameters: dict[str, float]) -> None:
    (change,) = onnxact.swap_relu(net("y = Relu(x)"), to=to).sites
    assert change.parameters == parameters


@pytest.mark.parametrize("parameters", [{}, {"min": float("-inf")}, {"max": float("inf")}])
def test_a_swap_to_a_clip_without_a_bound_is_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"clip without a bound changes nothing: .* or take hard-tanh"):
        onnxact.swap_relu(net("y = Relu(x)"), to="clip", parameters=parameters)


def test_ops_in_which_nothing_can_be_written_are_a_reason_with_every_form() -> None:
    result = onnxact.decompose(net("y = LeakyRelu(x)"), ops=["Conv", "Mul"])
    assert not result.sites and len(result.left) == 1
    assert all(f"{form}: " in result.left[0].reason for form in ACTIVATIONS["leaky_relu"].forms if form != "op")


def test_ops_of_a_runtime_leave_what_they_cannot_express() -> None:
    model = net("h = LeakyRelu(x)\n[e] y = Elu(h)")
    result = onnxact.decompose(model, ops=["Conv", "Mul", "Max"])
    assert [change.form for change in result.sites] == ["mul-max"]
    assert [skip.node for skip in result.left] == ["e"]
    assert result.to_json()["left"] == [{"scope": "", "node": "e", "reason": result.left[0].reason}]
    assert set(result.left) <= set(result.skipped) and not result.unfinished


@pytest.mark.parametrize("kind", ["string", "int", "nan"])
def test_an_attribute_that_is_no_number_is_a_reason(kind: str) -> None:
    model = net("[act] y = LeakyRelu(x)")
    value: object = {"string": "q", "int": 1, "nan": float("nan")}[kind]
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", value))
    (skip,) = onnxact.inspect(model).skipped
    what = "nan, which is not a number" if kind == "nan" else f"an attribute of type {kind}, not a number"
    assert skip.reason == f"looks like leaky_relu (op), but its alpha is {what}"
    assert [skip.node for skip in onnxact.decompose(model).skipped] == ["act"]


def test_an_op_that_is_part_of_another_activation_is_a_reason() -> None:
    noisy = "n = RandomNormalLike(x)\ns = Add(x, n)\n[noisy] a = Relu(s)\n[clean] y = Relu(a)"
    result = onnxact.swap_relu(net(noisy))
    assert [change.site.node for change in result.sites] == ["clean"]
    (skip,) = result.skipped
    assert skip.node == "noisy"
    assert skip.reason == "is part of a noisy_relu (relu); swap noisy-relu for relu first, which takes the noise out"
    assert not onnxact.swap_relu(net(noisy), exclude="noisy").skipped
    tree = net("p = Relu(x)\nn = Neg(x)\n[inner] q = Relu(n)\ns = Mul(a, q)\ny = Sub(p, s)", "float a = {0.2}")
    assert [skip.reason for skip in onnxact.swap_relu(tree).skipped] == ["is part of a leaky_relu (relu-neg)"]


def test_a_fused_site_is_not_called_something_else_too() -> None:
    body = "z = Constant<value_float = 0.0>()\nc = Less(x, z)\nm = Mul(a, x)\ny = Where(c, m, x)"
    result = onnxact.fuse(net(body, "float[3,1] a = {0.25, 0.5, 2.0}"))
    assert [change.activation for change in result.sites] == ["prelu"]
    assert not result.skipped


@pytest.mark.parametrize("body", ["c = Less(x, a)\ny = Where(c, a, x)", "c = Greater(x, a)\ny = Where(c, a, x)"])
def test_onnx_own_clip_is_recognised(body: str) -> None:
    fused = onnxact.fuse(net(body, "float a = {2.5}"))
    assert [node.op_type for node in fused.proto.graph.node] == ["Clip"]
    whole = "l = Less(x, a)\nt = Where(l, a, x)\ng = Less(b, t)\ny = Where(g, b, t)"
    fused = onnxact.fuse(net(whole, "float a = {-1.0}, float b = {2.5}"))
    assert [(c.activation, c.site.form, c.exact) for c in fused.sites] == [("clip", "where", True)]


def test_a_bound_that_is_computed_is_a_near_miss() -> None:
    (skip,) = onnxact.fuse(net("c = Less(x, d)\n[act] y = Where(c, d, x)", more="float d")).skipped
    assert skip.reason == "looks like clip (where-min), but its min is computed when the model runs"
    assert not onnxact.fuse(net("y = Max(x, d)", more="float d")).skipped


@pytest.mark.parametrize(
    ("alpha", "form", "note"),
    [
        (0.1, "mul-max", ""),
        (0.0, "mul-max", "gives another result at +inf"),
        (0.1, "mul-abs-add", "gives another result at -inf"),
        (1.5, "relu-affine", "gives another result at +inf"),
        (0.5, "relu-affine", ""),
    ],
)
def test_a_note_names_the_inputs_at_which_these_parameters_differ(alpha: float, form: str, note: str) -> None:
    (change,) = onnxact.decompose(net(f"y = LeakyRelu<alpha = {alpha}>(x)"), form=form).sites
    assert change.note.removeprefix(f"alpha {alpha} is {alpha:.9g} in float32; ") == note or change.note == note


def test_slopes_that_nothing_takes_are_told() -> None:
    slopes = {"act": np.float32(0.25), "other": np.float32(0.5)}
    result = onnxact.swap_relu(net("[act] y = Relu(x)"), to="prelu", parameters={"slope": slopes})
    assert len(result.sites) == 1
    (skip,) = result.skipped
    assert (skip.node, skip.reason.partition(",")[0]) == ("other", "the slopes have an array of this name")
