"""Every function and method in the table computes what the class computes that it is said to stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from onnxact.torch.classes import Target
from onnxact.torch.functionals import METHODS, find_functional, meaning_of, names_of, spellings

VALUES = {"min": -0.5, "max": 0.75, "weight": 0.3, "threshold": 0.4, "value": 0.0, "alpha": 0.7, "beta": 2.0}
SPELLINGS = {f"{getattr(f, '__module__', '')}.{row.name}.{n}": (f, row) for n, (f, row) in enumerate(spellings())}


@pytest.mark.parametrize("key", SPELLINGS)
def test_a_function_is_what_it_is_said_to_be(key: str) -> None:
    function, row = SPELLINGS[key]
    given = {name: VALUES.get(name, default) for name, (_, default) in row.arguments.items() if name}
    meaning = row.meaning(given)
    assert meaning is not None and meaning.in_place == row.name.endswith("_")
    x = torch.linspace(-8, 8, 65)
    expected = Target(meaning.activation, dict(meaning.parameters)).build(in_place=False)(x)
    if "weight" in given:
        given["weight"] = torch.tensor([given["weight"]])
    by_name = given if row.name.startswith("gelu") else {}
    found = function(x.clone(), **by_name) if by_name else function(x.clone(), *given.values())
    assert torch.allclose(found, expected, rtol=1e-6), meaning


def test_methods_are_tensors_own() -> None:
    assert all(find_functional(getattr(torch.Tensor, name)) == row for name, row in METHODS.items())


@pytest.mark.parametrize(
    ("value", "activation"),
    [
        (torch.nn.Hardtanh(0.0, 6.0), "relu6"),
        (torch.nn.Hardtanh(0.0, float("inf")), "relu"),
        (torch.nn.Hardtanh(0.0, 5.0), "clip"),
        (torch.nn.GELU("tanh"), "gelu_tanh"),
        (torch.nn.functional.gelu, "gelu"),
        (torch.nn.ReLU6(), "relu6"),
        (torch.nn.Conv2d(1, 1, 1), None),
        (torch.abs, None),
        (print, None),
        ("relu", None),
    ],
)
def test_meanings(value: Any, activation: str | None) -> None:
    meaning = meaning_of(value)
    assert (meaning.activation if meaning else None) == activation


def test_names() -> None:
    assert {"relu", "relu_", "clamp", "clamp_min_", "hardtanh"} <= names_of("relu")
    assert "relu" not in names_of("leaky_relu") and "rrelu" in names_of("leaky_relu")
