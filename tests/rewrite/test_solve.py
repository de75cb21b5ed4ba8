"""Constants -> parameters: what they determine, and what they leave open."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

import onnxact
from tests.rewrite.texts import net, reasons, sites

SLOPES = st.floats(2.0**-20, 4.0, width=32)


def _abs_model(alpha: float) -> ModelProto:
    model = net("  y = LeakyRelu (x)")
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", alpha))
    return onnxact.decompose(model, form="mul-abs-add", provenance=False).proto


@given(SLOPES)
@settings(max_examples=40, deadline=None)
def test_mul_abs_add_gives_the_slope_or_the_interval_that_holds_it(alpha: float) -> None:
    """The interval is exactly that of the float32 numbers with the same two constants."""
    model = _abs_model(alpha)
    result = onnxact.fuse(model)
    if result.changed:
        assert result.proto.graph.node[0].attribute[0].f == np.float32(alpha)
        return
    (reason,) = [skip.reason for skip in result.skipped]
    low, high = map(np.float32, re.findall(r"from (\S+) to (\S+) gives", reason)[0])
    assert low <= np.float32(alpha) <= high
    constants = _constants(alpha)
    for inside in (low, high):
        assert _constants(float(inside)) == constants
    for outside in (np.nextafter(low, np.float32(-9)), np.nextafter(high, np.float32(9))):
        assert _constants(float(outside)) != constants


def _constants(alpha: float) -> tuple[bytes, bytes]:
    return np.float32((1 + alpha) / 2).tobytes(), np.float32((1 - alpha) / 2).tobytes()


@given(SLOPES)
@settings(max_examples=20, deadline=None)
def test_a_given_parameter_settles_it_where_it_gives_the_same_constants(alpha: float) -> None:
    model = _abs_model(alpha)
    number = float(np.float32(alpha))
    fused = onnxact.fuse(model, parameters={"alpha": number})
    assert fused.proto.graph.node[0].attribute[0].f == np.float32(alpha)
    wrong = onnxact.fuse(model, parameters={"alpha": number * 1.5})
    assert wrong.proto.SerializeToString() == onnxact.fuse(model).proto.SerializeToString()


@pytest.mark.parametrize("form", ["mul-max", "where", "relu-neg", "relu-min", "relu-neg-add"])
@given(alpha=st.floats(2.0**-20, 1.0, width=32))
@settings(max_examples=10, deadline=None)
def test_forms_that_state_the_slope_give_its_bits_back(form: str, alpha: float) -> None:
    model = net("  y = LeakyRelu (x)")
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", alpha))
    written = onnxact.decompose(model, form=form, provenance=False).proto
    assert onnxact.fuse(written).proto.SerializeToString() == model.SerializeToString()


def test_slopes_for_each_channel_are_solved_one_by_one() -> None:
    model = net("  y = PRelu (x, s)", "float[3,1] s = {2, 3, 4}")
    written = onnxact.decompose(model, form="mul-abs-add", provenance=False).proto
    fused = onnxact.fuse(written).proto
    assert [node.op_type for node in fused.graph.node] == ["PRelu"]
    assert numpy_helper.to_array(fused.graph.initializer[0]).reshape(-1).tolist() == [2.0, 3.0, 4.0]


def test_constants_that_disagree_are_no_form() -> None:
    model = net(
        "  a = Mul (x, p)\n  b = Abs (x)\n  c = Mul (b, q)\n  y = Add (a, c)", "float p = {0.625}, float q = {0.5}"
    )
    assert not sites(model)


def test_a_slope_that_nearly_fits_is_reported() -> None:
    model = net(
        "  r = Relu (x)\n  m = Min (x, z)\n  a = Mul (m, p)\n  y = Add (r, a)", "float p = {0.25}, float z = {0.0001}"
    )
    assert ("leaky_relu", "relu-min") not in [(s.activation, s.form) for s in sites(model)]
    assert all(reason for reason in reasons(model))
