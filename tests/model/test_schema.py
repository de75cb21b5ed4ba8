"""What ONNX says about its ops."""

from __future__ import annotations

import pytest

from onnxact.activation.primitives import PRIMITIVES
from onnxact.errors import UsageError
from onnxact.model.schema import known_ops, op_names


def test_ops_are_known_in_any_case() -> None:
    given = ["relu", "hard-sigmoid", "PRelu", " Mul", "conv", "QLinearConv", "TreeEnsemble", "com.microsoft::Gelu"]
    known = {"Relu", "HardSigmoid", "PRelu", "Mul", "Conv", "QLinearConv", "TreeEnsemble", "com.microsoft::Gelu"}
    assert known_ops(given) == known


@pytest.mark.parametrize("name", ["Maxx", "Uniform", ""])
def test_an_unknown_op_is_answered_with_those_near_and_those_of_forms(name: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown op {name!r}.*known to forms: .*Max, Min"):
        known_ops(["Relu", name])


def test_the_nearest_comes_first() -> None:
    with pytest.raises(UsageError, match=r"unknown op 'Maxx' \(did you mean 'Max'\?\)"):
        known_ops(["Maxx"])


def test_every_op_of_a_form_is_one_of_onnx() -> None:
    assert set(PRIMITIVES) - op_names() == {"Uniform"}
