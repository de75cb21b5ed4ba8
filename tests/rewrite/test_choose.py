"""Which form is taken, and why the others are not."""

from __future__ import annotations

from typing import Any

import pytest

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import ops, size
from onnxact.rewrite.choose import Choice, Setting, choose
from tests.laws.models import DTYPES, OPSETS, natives, settings


def _chosen(name: str, bound: dict[str, Any], opset: int = 18, **options: Any) -> Choice:
    return choose(ACTIVATIONS[name], bound, Setting(opset, options.pop("dtype", "float32"), **options))


@pytest.mark.parametrize(
    ("alpha", "opset", "form"),
    [(0.2, 18, "mul-max"), (1.0, 18, "mul-max"), (2.0, 18, "mul-min"), (0.0, 18, "where"), (-0.5, 18, "where"),
     (0.2, 7, "mul-max"), (-0.5, 7, "relu-neg"), (-0.5, 8, "relu-min")],
)  # fmt: skip
def test_the_exact_form_with_the_fewest_nodes(alpha: float, opset: int, form: str) -> None:
    choice = _chosen("leaky_relu", {"alpha": alpha}, opset)
    assert (choice.name, choice.exact) == (form, True)
    assert {name for name, _ in choice.others} | {form} == set(ACTIVATIONS["leaky_relu"].forms) - {"op"}


@pytest.mark.parametrize("row", list(natives()), ids=lambda row: row.name)
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_holds_for_every_activation(row: Any, opset: int, dtype: str) -> None:
    """Exact before inexact, then the fewest nodes; and every other form comes with a reason."""
    for values in settings(row):
        bound = {**row.defaults, **{name: v for name, v in values.items() if isinstance(v, float)}}
        choice = choose(row, bound, Setting(opset, dtype, None, allow_inexact=True))
        assert len(choice.others) + bool(choice.name) == len(row.forms) - ("op" in row.forms)
        assert all(reason for _, reason in choice.others), choice.others
        if choice.form is not None:
            best = (not choice.exact, size(choice.form.expr))
            assert all(reason != "not exact" or best[0] is False for _, reason in choice.others)
            assert row.native is None or row.native.op not in ops(choice.form.expr)


def test_an_inexact_form_has_to_be_allowed() -> None:
    refused = _chosen("elu", {"alpha": 1.0})
    assert refused.form is None
    assert "--allow-inexact" in refused.reasons
    assert _chosen("elu", {"alpha": 1.0}, allow_inexact=True).name == "where"


def test_mul_abs_add_is_never_the_default() -> None:
    for alpha in (-2.0, -0.5, 0.0, 0.01, 0.2, 1.0, 3.0):
        for opset in OPSETS:
            assert _chosen("leaky_relu", {"alpha": alpha}, opset, allow_inexact=True).name != "mul-abs-add"


def test_the_set_of_ops_is_kept_to() -> None:
    allowed = frozenset({"Mul", "Abs", "Add"})
    choice = _chosen("leaky_relu", {"alpha": 0.2}, ops=allowed, allow_inexact=True)
    assert choice.name == "mul-abs-add"
    assert ("where", "Less, Where are not among the ops allowed") in choice.others


def test_a_form_in_the_table_goes_before_a_derived_one_of_the_same_size() -> None:
    assert "[" not in _chosen("hard_swish", {}, 13, allow_inexact=True).name


@pytest.mark.parametrize(("opset", "form"), [(7, "max"), (7, "min-max")])
def test_max_with_a_constant_needs_opset_8(opset: int, form: str) -> None:
    name = "relu" if form == "max" else "relu6"
    reasons = dict(_chosen(name, {}, opset, allow_inexact=True).others)
    assert "of x and a constant needs opset 8" in reasons[form]
