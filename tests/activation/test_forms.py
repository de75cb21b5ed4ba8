"""Names -> forms, and forms for a runtime that has only some ops."""

from __future__ import annotations

import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS, FALSE, Activation, Form
from onnxact.activation.expr import TRUE, Call, Expr, ops, size, text, x
from onnxact.activation.forms import (
    alias_parameters,
    alternatives,
    derivations,
    family_member,
    find_activation,
    find_form,
    lowered,
    spelled_op,
)
from onnxact.activation.numeric import Values, evaluate, holds
from onnxact.activation.primitives import PRIMITIVES, Clip, Gelu, Softplus
from onnxact.errors import UsageError
from tests.activation.cases import EVERY_INSTANCE, Instance, parameters_of, wanted

NAMES = [
    *((row.name, row.name) for row in ACTIVATIONS.values()),
    *((row.spelled, row.name) for row in ACTIVATIONS.values()),
    ("LeakyRelu", "leaky_relu"),
    ("PRelu", "prelu"),
    ("GELU", "gelu"),
    ("SiLU", "swish"),
    ("hard-tanh", "clip"),
    ("quick-gelu", "swish"),
]
ALIASED = {"silu": {"beta": 1.0}, "quickgelu": {"beta": 1.702}, "hard-tanh": {"min": -1.0, "max": 1.0}}
"""Elfwing et al. 2018; Hendrycks and Gimpel 2016, section 2; the defaults of torch.nn.Hardtanh."""


@pytest.mark.parametrize(("spelled", "name"), NAMES)
def test_an_activation_is_found_in_every_spelling(spelled: str, name: str) -> None:
    assert find_activation(spelled).name == name


@pytest.mark.parametrize("spelled", ALIASED)
def test_a_second_name_carries_its_parameters(spelled: str) -> None:
    found = find_activation(spelled)
    assert alias_parameters(spelled) == ALIASED[spelled] == {n: found.defaults[n] for n in ALIASED[spelled]}
    assert found.forms is ACTIVATIONS[found.name].forms
    assert not alias_parameters(found.name)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=r"unknown activation 'leeky-relu' \(did you mean 'leaky-relu'\?\); known: relu,"
    ):
        find_activation("leeky-relu")
    with pytest.raises(UsageError, match=r"relu6 has no form 'min-maxx' \(did you mean 'min-max'\?\); its forms: op, "):
        find_form(find_activation("relu6"), "min-maxx")
    with pytest.raises(UsageError, match="unknown op 'sofplus'; known: "):
        find_form(find_activation("mish"), "tanh-softplus[sofplus=stable]")
    with pytest.raises(UsageError, match="it has no Softplus that can be computed as 'nonsense'"):
        find_form(find_activation("mish"), "tanh-softplus[softplus=nonsense]")
    with pytest.raises(UsageError, match="it has no Max"):
        find_form(find_activation("mish"), "tanh-softplus[max=neg-min]")
    for name in ("", "op[", "Op", "tanh softplus"):
        with pytest.raises(UsageError, match="has no form"):
            find_form(find_activation("mish"), name)


def test_ops_are_spelled_as_activations_are() -> None:
    assert (spelled_op("HardSigmoid"), spelled_op("PRelu"), spelled_op("Mul")) == ("hard-sigmoid", "prelu", "mul")


def test_derived_forms_say_how_their_ops_are_computed() -> None:
    mish = find_activation("mish")
    derived = find_form(mish, "tanh-softplus[softplus=stable]")
    assert text(derived.expr) == "x * Tanh(Relu(x) + Log(1 + Exp(-Abs(x))))"
    nested = find_form(mish, "tanh-softplus[softplus=stable,abs=relu,neg=mul]")
    assert text(nested.expr) == "x * Tanh(Relu(x) + Log(1 + Exp((Relu(x) + Relu(x * -1)) * -1)))"
    assert find_form(mish, "tanh-softplus[ softplus = stable ]") == derived


def test_a_derived_form_holds_and_is_exact_where_its_parts_are() -> None:
    leaky, relu6 = find_activation("leaky-relu"), find_activation("relu6")
    assert find_form(leaky, "relu-min[relu=max]").exact is TRUE
    assert find_form(leaky, "relu-min[relu=abs]").exact == FALSE
    assert find_form(relu6, "min-relu[relu=where-greater]").exact == FALSE
    assert find_form(leaky, "mul-max[max=neg-min]").exact == leaky.forms["mul-max"].exact
    assert find_form(leaky, "mul-max[max=neg-min]").when == leaky.forms["mul-max"].when
    assert find_form(find_activation("prelu"), "leaky-relu[leaky-relu=mul-max]").when == (
        find_activation("prelu").forms["leaky-relu"].when & find_activation("prelu").forms["mul-max"].when
    )


def test_alternatives_bind_what_the_op_does_not_have() -> None:
    """Softplus has neither beta nor threshold: inside another form they are 1 and infinite."""
    found = {option.name: option for option in alternatives(Softplus(x))}
    assert holds(found["stable"].when, {})
    assert not any("Softplus" in ops(option.expr) for option in found.values())


def test_alternatives_are_those_of_the_op_with_these_operands() -> None:
    assert {option.name for option in alternatives(Gelu(x, "tanh"))} >= {"tanh-pow"}
    assert "erf" not in {option.name for option in alternatives(Gelu(x, "tanh"))}
    assert "min-relu" in {option.name for option in alternatives(Clip(x, 0, 6))}
    assert "min-relu" not in {option.name for option in alternatives(Clip(x, 0, 5))}
    assert alternatives(Call("Erf", (x,))) == ()


BASIC = frozenset({"Relu", "Mul", "Add", "Exp", "Log", "Div"})
"""No Abs, Neg, Sub, Max, Min, Where: what WebGL-like runtimes lack is made of Relu."""
ACCELERATOR = frozenset({"Relu", "Softplus", "Sigmoid", "Tanh", "Mul", "Add", "Sub", "Div", "Max", "Min", "Exp", "Log"})
"""The list of onnx-mlir's NNPA (onnx/onnx-mlir docs/SupportedONNXOps-NNPA.md)."""
FEW = frozenset({"Relu", "Mul", "Add", "Sub", "Div", "Clip", "Sigmoid"})
CASTING = frozenset({"Relu", "Mul", "Add", "Greater", "Cast"})
MAX_MIN = frozenset({"Max", "Min", "Mul", "Add", "Exp", "Less", "Where", "Abs", "Div"})

REACHABLE: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "BASIC": (BASIC, frozenset(ACTIVATIONS) - {"thresholded_relu", "noisy_relu"}),
    "ACCELERATOR": (ACCELERATOR, frozenset(ACTIVATIONS) - {"thresholded_relu", "noisy_relu"}),
    "FEW": (
        FEW,
        frozenset(ACTIVATIONS) - {"thresholded_relu", "noisy_relu", "softplus", "mish", "log_sigmoid"},
    ),
    "CASTING": (CASTING, frozenset({"relu", "relu6", "clip", "leaky_relu", "prelu", "thresholded_relu", "hard_swish"})),
    "MAX_MIN": (MAX_MIN, frozenset({"relu", "relu6", "clip", "leaky_relu", "thresholded_relu", "elu", "softsign"})),
}
"""Set -> its ops, and the activations that can be computed with them for their first parameters."""


@pytest.mark.parametrize(
    ("key", "name"), [(key, name) for key, (_, names) in REACHABLE.items() for name in sorted(names)]
)
def test_a_form_is_found_for_a_restricted_set(key: str, name: str) -> None:
    admitted, activation = REACHABLE[key][0], ACTIVATIONS[name]
    parameters = {"min": 0.0, "max": 6.0} if name == "clip" else activation.defaults
    found = [
        option
        for form_name, form in activation.forms.items()
        if holds(form.when, parameters) and (option := lowered(form_name, form, admitted.__contains__, parameters))
    ]
    assert found
    for option in found:
        assert ops(option.form.expr) <= admitted
        assert find_form(activation, option.name).expr == option.form.expr


SETS = [*(admitted for admitted, _ in REACHABLE.values()), frozenset(PRIMITIVES)]


@pytest.mark.parametrize("instance", [case for case in EVERY_INSTANCE if case.values[0].form.emitted])  # type: ignore[union-attr]
def test_lowered_forms_are_the_activation(instance: Instance) -> None:
    """In float64 within 1e-12 of the larger of 1 and |x| (see `LOOSE` for two others), by admitted ops only."""
    activation, name, form, parameters = instance
    for admitted in SETS:
        found = lowered(name, form, admitted.__contains__, parameters)
        if found is None:
            assert not ops(form.expr) <= admitted
            continue
        assert ops(found.form.expr) <= admitted
        assert holds(found.form.when, parameters)
        loose = [value for part, value in LOOSE.items() if part in f"{activation.name}-{found.name}"]
        assert error(found.form.expr, instance, parameters) <= max(loose, default=1e-12), found.name


LOOSE = {"polynomial": 2e-7, "gelu-tanh": 4.8e-4, "hard_sigmoid-clip6": 1e-8}
"""The errors of gelu's polynomial and tanh form, and of the float32 number nearest to 1/6 in `clip6`."""


def error(expr: Expr, instance: Instance, parameters: Values) -> float:
    points = np.concatenate([np.linspace(-30, 30, 601), np.geomspace(1e-6, 1e3, 50), -np.geomspace(1e-6, 1e3, 50)])
    got = evaluate(expr, points, parameters)
    expected = wanted(instance.activation, points, parameters)
    return float(np.max(np.abs(got - expected) / np.maximum(np.abs(points), 1)))


@pytest.mark.parametrize("instance", [case for case in EVERY_INSTANCE if not case.values[0].form.emitted])  # type: ignore[union-attr]
def test_forms_that_are_only_recognised_are_the_activation_near_zero(instance: Instance) -> None:
    points = np.linspace(-20, 20, 401)
    got = evaluate(instance.form.expr, points, instance.parameters)
    np.testing.assert_allclose(got, wanted(instance.activation, points, instance.parameters), rtol=1e-6, atol=1e-12)


def test_what_is_admitted_already_is_left_alone() -> None:
    softplus = find_activation("softplus")
    found = lowered("stable", softplus.forms["stable"], lambda op: True, softplus.defaults)
    assert found is not None
    assert found == ("stable", softplus.forms["stable"])


def test_a_form_with_an_op_that_nothing_replaces_cannot_be_lowered() -> None:
    gelu = find_activation("gelu")
    assert lowered("erf", gelu.forms["erf"], lambda op: op != "Erf", {}) is None
    assert all(size(form.expr) > 0 for form in gelu.forms.values())


@pytest.mark.parametrize("name", ["leaky_relu", "prelu"])
def test_slope_forms_reach_a_runtime_without_neg(name: str) -> None:
    """-x is x * -1, and a difference is a sum with that."""
    activation = ACTIVATIONS[name]
    for parameters in parameters_of(activation):
        found = lowered("relu-neg", activation.forms["relu-neg"], {"Relu", "Mul", "Add"}.__contains__, parameters)
        assert found is not None
        assert found.name == "relu-neg[neg=mul,sub=add-neg]"


@pytest.mark.parametrize(
    ("activation", "name", "form"),
    [(row, name, form) for row in ACTIVATIONS.values() for name, form in row.forms.items() if form.error],
)
def test_forms_that_come_near_stay_within_their_error(activation: Activation, name: str, form: Form) -> None:
    """The largest distance over [-12, 12], beyond which both are 0 or x, is not far below what is stated."""
    points = np.linspace(-12, 12, 240_001)
    distance = np.abs(evaluate(form.expr, points, {}) - activation.reference(points))
    assert 0.9 * form.error <= distance.max() <= form.error, name


def test_a_family_has_a_form_for_every_number() -> None:
    leaky = find_activation("leaky-relu")
    member = find_form(leaky, "fixed-slope[slope=0.125]")
    assert family_member("fixed-slope", 0.125) == ("fixed-slope[slope=0.125]", member)
    points = np.linspace(-4, 4, 81)
    np.testing.assert_allclose(
        evaluate(member.expr, points, {"alpha": 0.3}), leaky.reference(points, alpha=np.float64(0.3)), atol=1e-15
    )
    assert find_form(leaky, "fixed-slope[slope=0.1015625]") == leaky.forms["fixed-slope"]
    for number in ("1.0", "steep"):
        with pytest.raises(UsageError, match="cannot be its slope"):
            find_form(leaky, f"fixed-slope[slope={number}]")


def test_every_way_to_derive_a_form_is_found_whatever_the_order() -> None:
    """Abs brings a Neg that was not there before: first Abs, then Neg."""
    softplus = find_activation("softplus")
    refused = {"Abs", "Neg", "Max", "Min"}
    found = [one.name for one in derivations("stable", softplus.forms["stable"], lambda c: c.op in refused, {})]
    assert found == ["stable[abs=relu,neg=mul]"]
    assert not list(derivations("stable", softplus.forms["stable"], lambda c: c.op != "Relu", {}))
    by_call = list(derivations("stable", softplus.forms["stable"], lambda c: c.op == "Neg" and c.args[0] == x, None))
    assert [one.name for one in by_call] == ["stable"]
