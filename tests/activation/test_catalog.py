"""Totality: nothing in the table is without a meaning, a source, an op or the reason for none, and names that exist."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
import torch
from onnx import defs

from onnxact.activation.catalog import REWRITES, SPECIAL_INPUTS, Activation, Form
from onnxact.activation.expr import Call, Expr, Parameter, parameters, substitute, walk, x, y
from onnxact.activation.forms import _INEXACT_REWRITES
from onnxact.activation.numeric import FLOATS, evaluate, holds
from onnxact.activation.primitives import PRIMITIVES, Primitive
from onnxact.activation.rounding import _WITH_ATTRIBUTES, unit_roundoff
from tests.activation.cases import DTYPES, EVERY_ACTIVATION, every_form, parameters_of, signed_log

WITHOUT_OP = {
    "log_sigmoid": "ONNX has no such op",
    "noisy_relu": "a sum with noise",
}
WITHOUT_TORCH = {"noisy_relu": "torch.nn has no layer for it"}
CONDITION_ONLY = {"Uniform": "a question about a slope tensor, never a node"}


@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
def test_every_activation_has_a_reference_and_a_source(activation: Activation) -> None:
    points = np.array([-2.0, 0.5, 3.0])
    values = activation.reference(points, **{k: np.float64(v) for k, v in activation.defaults.items()})
    assert values.shape == points.shape
    assert values.dtype == np.float64
    assert activation.source
    assert activation.forms


@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
def test_every_activation_has_an_op_or_a_reason(activation: Activation) -> None:
    assert (activation.native is None) == (activation.name in WITHOUT_OP)
    if activation.native is not None:
        assert defs.has(activation.native.op)


@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
def test_every_activation_has_a_torch_class_or_a_reason(activation: Activation) -> None:
    assert (not activation.torch) == (activation.name in WITHOUT_TORCH)
    if activation.torch:
        assert issubclass(getattr(torch.nn, activation.torch), torch.nn.Module)


@pytest.mark.parametrize("activation", [case for case in EVERY_ACTIVATION if case.id not in WITHOUT_OP])
def test_the_source_names_the_latest_version_of_the_op(activation: Activation) -> None:
    assert activation.native is not None
    stated = re.search(rf"ONNX {activation.native.op}-(\d+)", activation.source)
    assert stated is not None
    latest = defs.get_schema(activation.native.op).since_version
    assert int(stated[1]) <= latest
    assert defs.get_schema(activation.native.op, int(stated[1])).since_version == int(stated[1])


@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
def test_defaults_are_those_of_onnx_bit_for_bit(activation: Activation) -> None:
    native = activation.native
    if native is None:
        pytest.skip(WITHOUT_OP[activation.name])
    stated = defs.get_schema(native.op).attributes
    for operand, arg in zip(PRIMITIVES[native.op].operands, native.args, strict=True):
        if operand in stated and isinstance(arg, Parameter):
            default = onnx.helper.get_attribute_value(stated[operand].default_value)
            assert activation.defaults[arg.name] == default


@pytest.mark.parametrize(("activation", "name", "form"), every_form())
def test_every_form_is_made_of_known_parts(activation: Activation, name: str, form: Form) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert {call.op for call in walk(form.expr) if isinstance(call, Call)} <= PRIMITIVES.keys()
    own = set(activation.defaults)
    assert own >= {*parameters(form.expr), *parameters(form.when), *parameters(form.exact)}
    assert form.special.keys() <= SPECIAL_INPUTS.keys()


@pytest.mark.parametrize(("activation", "name", "form"), every_form())
def test_every_form_holds_for_some_of_the_tested_parameters(activation: Activation, name: str, form: Form) -> None:
    assert any(holds(form.when, values) for values in parameters_of(activation))


@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
def test_no_two_forms_are_the_same_term(activation: Activation) -> None:
    terms = [form.expr for form in activation.forms.values()]
    assert len(set(terms)) == len(terms)


@pytest.mark.parametrize("primitive", [pytest.param(p, id=n) for n, p in PRIMITIVES.items() if n not in CONDITION_ONLY])
def test_operands_are_inputs_and_attributes_of_the_op(primitive: Primitive) -> None:
    latest = defs.get_schema(primitive.name)
    inputs = [operand.name for operand in latest.inputs]
    if latest.inputs and latest.inputs[-1].option == defs.OpSchema.FormalParameterOption.Variadic:
        inputs.append("data_1")
    taken = [name for name in primitive.operands if name not in latest.attributes]
    assert taken == inputs[: len(taken)]
    assert all(name in latest.attributes for name in primitive.operands[len(taken) :])


def test_ops_with_numeric_attributes_are_known_to_the_enclosure() -> None:
    random = {"RandomNormal", "RandomNormalLike"}
    found = {
        name
        for name, row in PRIMITIVES.items()
        if name not in random | set(CONDITION_ONLY)
        for operand in row.operands
        if operand in (stated := defs.get_schema(name).attributes)
        and stated[operand].type == defs.OpSchema.AttrType.FLOAT
    }
    assert found == _WITH_ATTRIBUTES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "way"), [(op, way) for op, row in REWRITES.items() for way in row])
def test_rewrites_mean_the_op(op: str, way: str, dtype: str) -> None:
    """Bit for bit but for the sign of zero, inexact ones within 3 u where nothing over- or underflows."""
    points = signed_log(dtype)
    other = {"y": np.random.default_rng(5).permutation(points).astype(np.float64)}
    second: dict[Expr, Expr] = {y: Parameter("y")}
    expected = evaluate(Call(op, (x, Parameter("y"))[: len(PRIMITIVES[op].operands)]), points, other).astype(np.float64)
    found = evaluate(substitute(REWRITES[op][way], second), points, other).astype(np.float64)
    if op in _INEXACT_REWRITES:
        with np.errstate(invalid="ignore"):
            error = np.abs(found - expected)
        inside = (np.abs(expected) > 1e-4) & (np.abs(expected) < 1e3) & (np.abs(points.astype(np.float64)) < 1e3)
        inside &= (np.abs(other["y"]) > 1e-3) & (np.abs(other["y"]) < 1e3)
        assert np.all(error[inside] <= 3 * unit_roundoff(FLOATS[dtype]) * np.abs(expected)[inside])
    else:
        np.testing.assert_array_equal(found, expected)
