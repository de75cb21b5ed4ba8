"""Law: a form that says "exact" gives the bits of the reference rounded once, except as its row declares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS, FALSE, SPECIAL_INPUTS, Form
from onnxact.activation.expr import TRUE, Call, varies, walk
from onnxact.activation.forms import alternatives, find_form, spelled_op
from onnxact.activation.numeric import FLOATS, Values, evaluate, holds, rounded
from onnxact.activation.primitives import Array
from tests.activation.cases import (
    DTYPES,
    EVERY_INSTANCE,
    Instance,
    all_patterns,
    every_form,
    instances,
    specials,
    wanted,
)
from tests.activation.runtime import NoKernelError, run

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # signalling NaNs


def in_dtype(parameters: Values, dtype: str) -> dict[str, float]:
    """Return the parameters as a model in `dtype` holds them."""
    return {name: float(rounded(value, FLOATS[dtype])) for name, value in parameters.items()}


def same(left: Array, right: Array) -> Array:
    """Tell where two arrays are equal, NaN being equal to itself and -0 to 0."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def other_zero(left: Array, right: Array) -> Array:
    """Tell where both are zeros of different sign."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return np.asarray((a == 0) & (b == 0) & (np.signbit(a) != np.signbit(b)))


def declared(form: Form, points: Array, values: Array) -> Array:
    """Tell where an infinite or NaN input gives what the row says it gives instead."""
    found = np.zeros(points.shape, bool)
    for name, instead in form.special.items():
        at = SPECIAL_INPUTS[name]
        found |= same(points, np.full(points.shape, at)) & same(values, np.full(points.shape, instead))
    return found


EXACT = [
    pytest.param(instance, dtype, id=f"{instance}-{dtype}")
    for instance in instances()
    for dtype in DTYPES
    if holds(instance.form.exact, in_dtype(instance.parameters, dtype))
]


@pytest.mark.parametrize(("instance", "dtype"), EXACT)
def test_exact_forms_give_the_reference_rounded_once(instance: Instance, dtype: str) -> None:
    """All values in 16 bits, 300,000 stratified bit patterns and the edges of each range in 32 and 64 bits."""
    activation, _, form, parameters = instance
    points = all_patterns(dtype)
    got, expected = evaluate(form.expr, points, parameters), wanted(activation, points, parameters)
    conditional = form.exact is not TRUE
    deviates = ~same(got, expected) if conditional else ~same(got, expected) & ~declared(form, points, got)
    assert not deviates.any(), np.stack([points, got, expected])[:, deviates].T[:5]
    if conditional or not form.signed_zero:
        assert not other_zero(got, expected).any()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("instance", [case for case in EVERY_INSTANCE if "-shape" not in str(case.id)])
def test_onnx_runtime_agrees(instance: Instance, dtype: str) -> None:
    """Exact forms on a sample of all bit patterns, the others at the special inputs.

    The parameters are numbers of the dtype: ONNX Runtime's float16 kernels do not round an attribute to it.
    """
    activation, _, form, _ = instance
    parameters = in_dtype(instance.parameters, dtype)
    exact = holds(form.exact, parameters)
    points = np.concatenate([specials(dtype), all_patterns(dtype, 20_000) if exact else specials(dtype)])
    try:
        got, expected = run(form.expr, points, parameters), wanted(activation, points, parameters)
    except NoKernelError as reason:
        pytest.skip(str(reason))
    inexact = np.isfinite(points) & np.isfinite(got) & (not exact)
    deviates = ~(same(got, expected) | inexact | declared(form, points, got))
    assert not deviates.any(), np.stack([points, got, expected])[:, deviates].T[:5]
    assert form.signed_zero or not other_zero(got, expected)[np.isfinite(points)].any()


@pytest.mark.parametrize("instance", EVERY_INSTANCE)
def test_what_special_inputs_give_is_declared(instance: Instance) -> None:
    activation, _, form, parameters = instance
    for dtype in DTYPES:
        points = specials(dtype)
        got, expected = evaluate(form.expr, points, parameters), wanted(activation, points, parameters)
        finite = np.isfinite(points) & np.isfinite(got)
        assert np.all(same(got, expected) | finite | declared(form, points, got)), (dtype, got, expected)
        assert form.signed_zero or not other_zero(got, expected)[np.isfinite(points)].any()


@pytest.mark.parametrize(("activation", "name", "form"), [case for case in every_form() if case.values[2].special])
def test_every_declared_special_occurs(activation: object, name: str, form: Form) -> None:
    found: set[str] = set()
    for instance in instances():
        if instance.form is form:
            points = specials("float32")
            got = evaluate(form.expr, points, instance.parameters)
            expected = wanted(instance.activation, points, instance.parameters)
            hits = declared(form, points, got) & ~same(got, expected)
            found |= {key for key, hit in zip(SPECIAL_INPUTS, hits, strict=True) if hit}
    assert found == set(form.special)


def derived() -> Iterator[tuple[Instance, str, Form]]:
    """Yield every form of the table with one op computed another way, where that says it is exact."""
    for instance in instances():
        calls = {c.op: c for c in walk(instance.form.expr) if isinstance(c, Call) and varies(c)}
        for op, call in calls.items():
            for option in alternatives(call) if instance.name != "op" else ():
                name = f"{instance.name}[{spelled_op(op)}={option.name}]"
                form = find_form(instance.activation, name)
                if holds(form.when, instance.parameters) and form.exact != FALSE:
                    yield instance, name, form


DERIVED: dict[str, list[tuple[Instance, Form]]] = {}
for _instance, _name, _form in derived():
    DERIVED.setdefault(f"{_instance.activation.name}-{_name}", []).append((_instance, _form))


@pytest.mark.parametrize("name", DERIVED)
def test_derived_forms_are_exact_where_they_say_so(name: str) -> None:
    for instance, form in DERIVED[name]:
        for dtype in ("float16", "float32"):
            if not holds(form.exact, in_dtype(instance.parameters, dtype)):
                continue
            points = all_patterns(dtype, 20_000)
            got = evaluate(form.expr, points, instance.parameters)
            expected = wanted(instance.activation, points, instance.parameters)
            deviates = ~same(got, expected) & ~declared(form, points, got)
            assert not deviates.any(), (str(instance), dtype, np.stack([points, got, expected])[:, deviates].T[:5])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS["prelu"].forms)
def test_slope_tensors_are_as_exact_as_slopes(name: str, dtype: str) -> None:
    activation, form = ACTIVATIONS["prelu"], ACTIVATIONS["prelu"].forms[name]
    slopes = np.array([1.0, 1.25, 3.0]) if name == "mul-min" else np.array([1.0, 0.25, 1e-3])
    slopes = np.full(3, 0.25) if name == "leaky-relu" else slopes
    if not holds(form.exact, {"slope": slopes}):
        pytest.skip("not exact")
    points = all_patterns(dtype, 20_000)
    points = points[np.isfinite(points.astype(np.float64))][:, np.newaxis]
    assert holds(form.when, {"slope": slopes})
    assert same(evaluate(form.expr, points, {"slope": slopes}), wanted(activation, points, {"slope": slopes})).all()
