"""Gradients: those of a swapped module are those of torch.nn's class; those of forms differ from it where they kink."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import ops
from onnxact.torch import swap
from onnxact.torch.classes import ROWS, find_target
from onnxact.torch.derivatives import gradients
from onnxact.torch.functionals import meaning_of_module
from onnxact.torch.terms import OPS, evaluate, gradient

ALPHA = 0.2
LEAKY_AT_ZERO = {
    "": ALPHA, "op": ALPHA, "prelu": ALPHA, "mul-max": (1 + ALPHA) / 2, "where": 1.0, "relu-min": ALPHA / 2,
    "relu-neg": 0.0, "relu-neg-add": 0.0, "mul-abs-add": (1 + ALPHA) / 2, "relu-affine": ALPHA,
}  # fmt: skip
"""What autograd gives at x = 0, worked out by hand: relu'(0) = abs'(0) = 0, ties of max and min share alike."""


def by_hand(x: float, alpha: float) -> float:
    """The backward of LeakyReLU as people write it: g * (x >= 0) + alpha * g * (x < 0)."""
    return float(x >= 0) + alpha * float(x < 0)


def test_leaky_relu_at_zero() -> None:
    found = {row.form: row.at for row in gradients("leaky_relu", {"alpha": ALPHA})}
    for form, at in found.items():
        assert at[-0.5] == pytest.approx(by_hand(-0.5, ALPHA)), form
        assert at[0.5] == pytest.approx(by_hand(0.5, ALPHA)), form
    for form, expected in LEAKY_AT_ZERO.items():
        assert found[form][0.0] == pytest.approx(expected), form
    assert found["where"][0.0] == by_hand(0.0, ALPHA) != found[""][0.0]


@pytest.mark.parametrize("name", ROWS)
def test_away_from_kinks_all_gradients_are_the_derivative(name: str) -> None:
    """The derivative of the reference, by central differences in float64."""
    target = find_target(name, {})
    reference = ACTIVATIONS[name].reference
    native, *forms = gradients(name)
    kinks = set(native.at) - {-0.5, 0.0, 0.5}
    assert forms or name == "softplus"
    for row in (native, *forms):
        for x in {-0.5, 0.5} - kinks:
            low, high = (float(reference(_array(x + step), **target.parameters)) for step in (-1e-6, 1e-6))
            near = 2e-3 if name == "gelu" else 1e-5  # forms of gelu may be approximations
            assert row.at[x] == pytest.approx((high - low) / 2e-6, abs=near), (row.form, x)


GRADIENTS = Path(__file__).resolve().parents[2] / "docs" / "gradients.md"
SECTION = re.compile(r"^## (\S+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def stated() -> dict[tuple[str, str], list[float]]:
    """What docs/gradients.md states: (activation, form) -> its row."""
    found = {}
    for spelled, section in SECTION.findall(GRADIENTS.read_text()):
        table = [line for line in section.splitlines() if line.startswith("|")]
        for line in table[2:]:
            what, *cells = [cell.strip(" `") for cell in line.strip("|").split(" | ")]
            form = "" if what.startswith("torch.nn.") else what
            found[spelled.replace("-", "_"), form] = [float(cell) for cell in cells]
    return found


def test_every_gradient_is_stated_as_the_documentation_has_it() -> None:
    """Every form of every activation, on both sides of each kink, at each kink, and at 0; no digit is let go."""
    measured = {(name, row.form): row.at for name in ROWS for row in gradients(name)}
    table = stated()
    assert table.keys() == measured.keys()
    for key, at in measured.items():
        assert table[key] == pytest.approx([at[point] for point in sorted(at)], rel=1e-5, abs=1e-6), key


@pytest.mark.parametrize("name", ROWS)
def test_at_kinks_a_gradient_is_of_one_side_or_between(name: str) -> None:
    """The class's is a subgradient of the reference; of forms, those that are not are few, and known by name."""
    target = find_target(name, {})
    reference = ACTIVATIONS[name].reference

    def value(x: float) -> float:
        with np.errstate(all="ignore"):
            return float(reference(_array(x), **target.parameters))

    native, *_ = gradients(name)
    for x, found in native.at.items():
        left, right = (value(x) - value(x - 1e-6)) / 1e-6, (value(x + 1e-6) - value(x)) / 1e-6
        jump = abs(value(x + 1e-9) - value(x)) > 1e-6 or abs(value(x) - value(x - 1e-9)) > 1e-6
        assert jump or min(left, right) - 1e-4 <= found <= max(left, right) + 1e-4, x


def _array(x: float) -> Any:
    return np.asarray(x, np.float64)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", [name for name in ROWS if name != "relu"])
def test_a_swapped_module_has_the_gradient_of_the_class(name: str, in_place: bool) -> None:
    swapped = swap(nn.Sequential(nn.ReLU(inplace=in_place)), "relu", name).module.double()
    native = find_target(name, {}).build(in_place=False).double()
    for x in (-4.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, 7.0):
        assert gradient(lambda tensor: swapped(tensor * 1), x) == pytest.approx(gradient(native, x), rel=1e-13), x


@pytest.mark.parametrize("alpha", [-0.3, 0.3])
@pytest.mark.parametrize("name", ["leaky_relu", "elu", "prelu"])
def test_in_place_has_a_gradient_for_negative_slopes(name: str, alpha: float) -> None:
    swapped = swap(nn.Sequential(nn.ReLU(inplace=True)), "relu", name, alpha=alpha).module.double()
    native = swap(nn.Sequential(nn.ReLU()), "relu", name, alpha=alpha).module.double()
    for x in (-1.0, 0.0, 1.0):
        assert gradient(lambda tensor: swapped(tensor * 1), x) == pytest.approx(gradient(native, x), rel=1e-13)


@pytest.mark.parametrize("name", ROWS)
def test_in_place_leaves_the_result_in_the_input(name: str) -> None:
    target = find_target(name, {})
    x = torch.linspace(-8, 8, 33)
    expected = target.build(in_place=False)(x)
    for training in (False, True):
        module, y = target.build(in_place=True), x.clone()
        with torch.set_grad_enabled(training):
            result = module(y)
        assert result is y or result.data_ptr() == y.data_ptr()
        assert torch.allclose(y, expected, rtol=1e-6)
        meaning = meaning_of_module(module)
        assert meaning is not None and (meaning.activation, meaning.in_place) == (name, True)


def test_every_activation_with_a_class_has_a_row() -> None:
    assert set(ROWS) == {name for name, row in ACTIVATIONS.items() if row.torch}
    for name in ROWS:
        target = find_target(name, {})
        assert set(target.parameters) == {param.name for param in ACTIVATIONS[name].params}
        module = target.build(in_place=False)
        assert type(module) is getattr(nn, ACTIVATIONS[name].torch)
        meaning = meaning_of_module(module)
        assert meaning is not None and (meaning.activation, dict(meaning.parameters)) == (name, dict(target.parameters))


def test_every_op_of_every_form_is_known() -> None:
    used = {op for name in ROWS for form in ACTIVATIONS[name].forms.values() for op in ops(form.expr)}
    assert used <= set(OPS)


@pytest.mark.parametrize("name", ROWS)
def test_forms_compute_what_the_class_does(name: str) -> None:
    """Float64, so that what differs is another function, not rounding; gelu's forms may be approximations."""
    x = torch.linspace(-6, 6, 97, dtype=torch.float64)
    target = find_target(name, {})
    expected: Tensor = target.build(in_place=False).double()(x)
    from onnxact.activation.numeric import holds

    for form, row in ACTIVATIONS[name].forms.items():
        if holds(row.when, target.parameters):
            near = 2e-3 if name == "gelu" else 1e-6
            assert torch.allclose(evaluate(row.expr, x, target.parameters), expected, atol=near), form
