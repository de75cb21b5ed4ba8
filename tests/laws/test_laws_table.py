"""The laws over the whole table: every native op x form x dtype x opset, decomposed and fused back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import onnxact
from onnxact.activation.catalog import ACTIVATIONS, FALSE, SPECIAL_INPUTS, Activation
from onnxact.activation.forms import find_form
from onnxact.activation.numeric import FLOATS, rounded
from onnxact.rewrite.draft import Change
from onnxact.rewrite.site import Tensor
from tests.laws import runtime
from tests.laws.laws import LAWS, Experiment, Subject, Verb
from tests.laws.models import DTYPES, OPSETS, natives, one_node, settings

FORMS = [
    (row.name, name, dtype)
    for row in natives()
    for name in row.forms
    if name != "op"
    for dtype in DTYPES
    if any(one_node(row, opset, dtype, settings(row)[0]) for opset in OPSETS)
]
FOR_EVERY_MODEL = [name for name in LAWS if name != "numerics"]


@cache
def experiments(activation: str, form: str, dtype: str) -> tuple[Experiment, ...]:
    """Return the decompositions into one form, at every opset, and at one of them with all parameters."""
    row = ACTIVATIONS[activation]
    verb = Verb(f"decompose --form {form}", onnxact.decompose, {"form": form, "activations": [activation]})
    found = []
    for opset in OPSETS if dtype == "float32" else (7, 13, 16, 22):
        for values in settings(row) if opset == 16 else settings(row)[:1]:
            model = one_node(row, opset, dtype, values)
            if model is not None:
                found.append(Experiment(Subject(model), verb))
    return tuple(found)


@pytest.mark.parametrize("law", FOR_EVERY_MODEL)
@pytest.mark.parametrize(("activation", "form", "dtype"), FORMS)
def test_law(activation: str, form: str, dtype: str, law: str) -> None:
    for experiment in experiments(activation, form, dtype):
        found = list(LAWS[law](experiment))
        assert not found, (experiment.before, found)


@pytest.mark.parametrize(("activation", "form", "dtype"), FORMS)
def test_every_site_is_written_or_skipped_with_the_reason_of_that_form(activation: str, form: str, dtype: str) -> None:
    for experiment in experiments(activation, form, dtype):
        result = experiment.result
        assert len(result.sites) + len(result.skipped) >= 1
        if not result.changed:
            assert any(f"{form}: " in skip.reason for skip in result.skipped), result.skipped


def test_every_emitted_form_is_written_somewhere() -> None:
    for name, form, dtype in FORMS:
        if dtype == "float32" and ACTIVATIONS[name].forms[form].emitted and (name, form) not in NOT_IN_THESE_SETTINGS:
            assert any(experiment.result.changed for experiment in experiments(name, form, dtype)), (name, form)


NOT_IN_THESE_SETTINGS = {
    ("softplus", "scaled"),
    ("softplus", "scaled-stable"),
    ("softplus", "threshold"),
    ("softplus", "scaled-threshold"),
    ("hard_sigmoid", "clip6"),
}


@pytest.mark.parametrize(
    ("activation", "form", "dtype"),
    [(name, form, dtype) for name, form, dtype in FORMS if ACTIVATIONS[name].forms[form].exact is not FALSE],
)
def test_an_exact_form_gives_the_bits_of_the_op(activation: str, form: str, dtype: str) -> None:
    """On ONNX Runtime without optimisation, over the whole range of the dtype; special values as the form declares."""
    compared = 0
    for experiment in experiments(activation, form, dtype):
        for change in experiment.result.sites:
            if change.exact:
                compared += _compare(experiment, change, dtype)
    if not compared:
        pytest.skip("neither ONNX Runtime nor onnx.reference runs it in this dtype")


def _compare(experiment: Experiment, change: Change, dtype: str) -> int:
    points = np.concatenate([runtime.values(FLOATS[dtype], 24, special=seed == 0, seed=seed) for seed in range(4)])
    compared = 0
    for x in points.reshape(4, 2, 3, 4):
        expected, actual = (runtime.outputs(model, {"x": x}) for model in (experiment.before, experiment.after))
        if expected is not None and actual is not None:
            left, right = _without_declared(change, x, expected[0], actual[0])
            assert not runtime.unequal(left, right), (experiment.before, change.parameters, x)
            compared = 1
    return compared


def _without_declared(change: Change, points: Any, left: Any, right: Any) -> tuple[Any, Any]:
    """Return both results with the points set to 0 where the form or the op declares another special value."""
    row = ACTIVATIONS[change.activation]
    declared = {**row.forms["op"].special, **find_form(row, change.form).special}
    beyond = np.zeros(points.shape, bool)
    for name in declared:
        at = SPECIAL_INPUTS[name]
        beyond |= np.isnan(points) if np.isnan(at) else points == at
    if "clip" in (change.activation, change.form):
        beyond |= np.isinf(points)  # a bound left out is the largest number of the dtype, not infinity (ONNX Clip-13)
    return np.where(beyond, 0, left), np.where(beyond, 0, right)


@pytest.mark.parametrize(("activation", "form", "dtype"), FORMS)
def test_without_provenance_the_op_comes_back_where_the_constants_determine_it(
    activation: str, form: str, dtype: str
) -> None:
    for experiment in experiments(activation, form, dtype):
        result = onnxact.decompose(experiment.before, form=form, activations=[activation], provenance=False)
        if result.changed:
            fused = onnxact.fuse(result.proto)
            _assert_back_or_explained(ACTIVATIONS[activation], experiment, fused)


def _assert_back_or_explained(row: Activation, experiment: Experiment, fused: onnxact.Result) -> None:
    before, after = experiment.before.graph, fused.proto.graph
    if len(after.node) == 1 and after.node[0].op_type == before.node[0].op_type:
        assert after.node[0].name == before.node[0].name
        dtype = fused.sites[0].site.dtype or ""
        assert list(_numbers(experiment.before, dtype)) == list(_numbers(fused.proto, dtype))
        return
    other_activation = [c for c in fused.sites if c.activation != row.name]
    already_native = [site for site in onnxact.inspect(fused.proto).sites if site.form == "op"]
    assert fused.skipped or other_activation or already_native, after


def _numbers(model: Any, dtype: str) -> Iterator[bytes]:
    """Yield the bits, in the tensor's dtype, of an activation's parameters as the site found in the model has them."""
    for site in onnxact.inspect(model).sites:
        for value in site.parameters.values():
            number = value.value if isinstance(value, Tensor) else value
            yield rounded(number, FLOATS[dtype]).reshape(-1).tobytes()
