"""What a caller would notice: all of it is listed, and nothing else."""

from __future__ import annotations

import pytest

from onnxact.check import check
from onnxact.check.interface import Interface
from tests.check.models import RELU, net


def test_everything_is_listed() -> None:
    before = net(
        "float[4] x, float[4] w, float[2] v",
        "float[4] y, float[4] z, float[2] u",
        "y = Add(x, w) z = Neg(x) u = Neg(v)",
    )
    after = net("double[4] x, float[4] k, float[3] v", "float[3] u, float[4] y", "y = Neg(k) u = Neg(v)")
    assert Interface(before, after).differences == (
        "input 'w' is lost",
        "input 'k' is new",
        "input 'x' was float, is double",
        "output 'z' is lost",
        "input 'v' was of shape [2], is [3]",
    )
    verdict = check(before, after, providers=["cpu"])
    assert (verdict.outcome, verdict.reasons) == ("different", Interface(before, after).differences)
    assert verdict.runtime.startswith("onnxruntime ")


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("float[1, 3] x", "float[1, 3] x", False),
        ("float[1, 3] x", "float[N, 3] x", False),
        ("float[N, M] x", "float[2, 3] x", False),
        ("float[1, 3] x", "float x", True),
        ("float[1, 3] x", "float[] x", False),
        ("float[1, 3] x", "float[2, 3] x", True),
        ("float[1, 3] x", "float[1, 3, 1] x", True),
    ],
)
def test_shapes_of_inputs(one: str, other: str, differ: bool) -> None:
    models = [net(inputs, "float[N, 3] y", RELU) for inputs in (one, other)]
    assert bool(Interface(*models).differences) == differ


def test_declared_shapes_of_outputs_are_noted_and_what_comes_out_is_compared() -> None:
    before, after = (net("float[2, 3] x", f"float{shape} y", RELU) for shape in ("[2, 3]", "[3, 2]"))
    assert Interface(before, after).differences == ()
    note = "declared otherwise: output 'y' was of shape [2, 3], is [3, 2]"
    assert Interface(before, after).notes == (note,)
    before.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "M"
    assert Interface(before, before).notes == ()


def test_inputs_that_ort_leaves_without_their_default_are_fed_nothing() -> None:
    """What ONNX Runtime saves of an IR 3 model: weights that it folded are inputs still, without a value."""
    weights = "float[4] w = {1, 2, 3, 4}", "float[4] v = {2, 4, 6, 8}"
    before = net("float[4] x, float[4] w", "float[4] y", "a = Add(x, w) y = Add(a, w)", weights[0], ir=3)
    after = net("float[4] x, float[4] w, float[4] v", "float[4] y", "y = Add(x, v)", weights[1], ir=3)
    verdict = check(before, after, providers=["cpu"])
    assert Interface(before, after).differences == ()
    assert verdict.equivalent, verdict.summary()
    lost = "inputs had a default value, which is lost: a caller has to give something, although nothing reads it: w"
    assert {lost, "inputs with a default value are new: v"} <= set(verdict.notes)
    read = net("float[4] x, float[4] w", "float[4] y", "a = Add(x, w) y = Add(a, w)", ir=3)
    assert Interface(before, read).differences == ("input 'w' is new",)
