"""Wrong forms are refuted, right ones are not: a proof that cannot be fooled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxact import prove
from onnxact.activation.catalog import ACTIVATIONS, Form
from onnxact.activation.expr import TRUE, Expr, x
from onnxact.activation.primitives import Abs, Exp, LeakyRelu, Max, Min, Mul, Relu, Where
from onnxact.check.prove.patterns import Space
from onnxact.rewrite.draft import Drafter
from tests.prove.engines import with_forms

NAN = float("nan")
A = 0.25  # every float dtype holds it

WRONG: dict[str, tuple[str, Form]] = {
    "min for max": ("leaky_relu", Form(Min(x, A * x), exact=TRUE)),
    "a slope off by one ulp": ("leaky_relu", Form(Max(x, (A + 2.0**-10) * x), exact=TRUE)),
    "half of another form": ("leaky_relu", Form(Where(x < 0, A * x, x + x * 2.0**-10), exact=TRUE)),
    "wrong in one place": ("leaky_relu", Form(Where(x < -60000, -x, Where(x < 0, A * x, x)), exact=TRUE)),
    "inexact passed as exact": (
        "leaky_relu",
        Form((1 + A / 3) / 2 * x + (1 - A / 3) / 2 * Abs(x), exact=TRUE, special={"-inf": NAN}, signed_zero=True),
    ),
    "no declared special": ("relu", Form((x + Abs(x)) / 2, exact=TRUE, signed_zero=True)),
    "a special that is another": (
        "relu", Form((x + Abs(x)) * 0.5, exact=TRUE, special={"-inf": 0.0, "+inf": NAN}, signed_zero=True)),
    "no declared sign of zero": ("leaky_relu", Form(Relu(x) + A * Min(x, 0), exact=TRUE)),
    "NaN lost": ("relu", Form(Where(x > 0, x, 0), exact=TRUE, signed_zero=True)),
    "bounded, and another function": ("elu", Form(Relu(x) + (Exp(Min(x, 0)) - 1.01))),
    "bounded, and the wrong slope": ("leaky_relu", Form(LeakyRelu(x, A * 1.01) * 1)),
}  # fmt: skip


class TestWrongForms:
    """`form` is what the engine computes; its bound is that of the form that it claims to be."""

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    @pytest.mark.parametrize("name", [name for name in WRONG if not name.startswith("bounded")])
    def test_a_form_that_is_not_exact_is_refuted(self, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
        activation, form = WRONG[name]
        if name == "wrong in one place" and dtype == "float32":
            pytest.skip("a number of float16")
        with_forms(monkeypatch, activation, {"wrong": form})
        parameters = {"alpha": A} if activation == "leaky_relu" else {}
        for against in ("op", "reference"):
            found = prove(activation, "wrong", parameters=parameters, dtype=dtype, against=against, sample=True)
            assert (found.outcome, found.exit_code) == ("refuted", 1), found.summary()
            wrong = found.forms[0]
            assert wrong.tally.examples or (wrong.ends and wrong.ends.examples)

    @pytest.mark.parametrize("against", ["op", "reference"])
    def test_a_form_beyond_its_bound_is_refuted(self, against: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The engine runs mul-abs-add with one constant changed by 8 u, held against the bound of the right one."""
        original = Drafter.write

        def changed(self: object, site: object, after: object) -> None:
            if getattr(after, "form", "") == "mul-abs-add":
                object.__setattr__(after, "expr", _nudged(after.expr))  # type: ignore[attr-defined]
            original(self, site, after)  # type: ignore[arg-type]

        monkeypatch.setattr(Drafter, "write", changed)
        found = prove("leaky_relu", "mul-abs-add", parameters={"alpha": A}, sample=True, against=against)  # type: ignore[arg-type]
        assert found.outcome == "refuted"
        assert found.forms[0].tally.broken > 10_000


def _nudged(term: Expr) -> Expr:
    """Return a * x + b * Abs(x) with another b; the errors of both products are at most 3 u."""
    return Mul(x, 0.625) + (0.375 + 2.0**-21) * Abs(x)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_right_forms_are_not_refuted(dtype: str) -> None:
    provider = "cpu" if dtype == "float16" else "numpy"
    for activation in ("leaky_relu", "prelu", "relu6", "thresholded_relu", "elu", "hard_swish"):
        found = prove(activation, "all", dtype=dtype, provider=provider)
        assert {form.outcome for form in found.forms} == {"proven"}, found.summary()
        assert all(form.tally.tried == 65536 for form in found.forms)


def test_declared_exceptions_are_counted_and_no_others() -> None:
    found = prove("leaky_relu", "relu-min", parameters={"alpha": A}, sample=True)
    tally = found.forms[0].tally
    assert (found.outcome, tally.numbers, tally.special, tally.broken) == ("not refuted", 0, 0, 0)
    assert tally.declared == tally.zero_sign > 0


def test_an_op_that_departs_from_the_reference_is_not_hidden_by_a_form_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The form's bits are not the op's, and that is what was asked."""
    with_forms(monkeypatch, "relu", {"op": Form(Relu(x) + Where(x > 100, 1, 0), exact=TRUE, signed_zero=True)})
    assert prove("relu", "max", dtype="float16", against="op").outcome == "refuted"
    assert prove("relu", "max", dtype="float16", against="reference").outcome == "proven"
    assert prove("relu", "op", dtype="float16").outcome == "refuted"


def test_where_exactness_depends_on_parameters_so_does_what_is_allowed() -> None:
    """mul-max with alpha = 0 gives NaN for +inf, which is declared; with alpha > 0 it is exact and nothing is."""
    zero = prove("leaky_relu", "mul-max", parameters={"alpha": 0.0}, dtype="float16")
    assert (zero.forms[0].exact, zero.outcome, zero.forms[0].tally.special) == (False, "proven", 1)
    exact = prove("leaky_relu", "mul-max", parameters={"alpha": A}, dtype="float16")
    assert (exact.forms[0].exact, exact.forms[0].tally.special, exact.forms[0].tally.zero_sign) == (True, 0, 0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_an_approximation_declares_is_held_to(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """GELU's polynomial is off by 2.2e-7 at most, before rounding: a tenth of that is refuted where it shows."""
    row = ACTIVATIONS["gelu"].forms["polynomial"]
    with_forms(monkeypatch, "gelu", {"honest": row, "boasting": replace(row, error=row.error / 100)})
    found = prove("gelu", ["honest", "boasting"], dtype=dtype, sample=True, against="reference")
    outcomes = {form.form: form.outcome for form in found.forms}
    assert outcomes["honest"] != "refuted"
    assert (outcomes["boasting"] == "refuted") == (dtype == "float32")


def test_the_largest_error_is_where_it_is_said_to_be() -> None:
    found = prove("leaky_relu", "mul-abs-add", parameters={"alpha": 0.2}, dtype="float32", sample=True)
    worst = found.forms[0].tally.worst
    assert worst is not None
    x_value, got, wanted = Space("float32").numbers(np.array(worst[:3], np.uint32)).astype(np.float64)
    slope = float(np.float32(0.2))
    assert wanted == np.float32(slope * x_value)
    assert abs(got - wanted) / (abs(wanted) * 2.0**-24) == pytest.approx(worst.error)
    assert 4 < worst.error < 5
