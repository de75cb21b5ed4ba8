"""ReLU that is not called by a name of torch.nn.functional: operators, maxima, choices, masks; around forward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import onnxact
from onnxact.torch import swap
from tests.torch.networks import Net, example, make


class Operators(Net):
    """Operators of torch.ops.aten, called directly; the last one is no ELU of torch.nn."""

    def forward(self, x: Tensor) -> Any:
        x = torch.ops.aten.relu(self.conv(x))
        x = torch.ops.aten.relu.default(self.last(x)) + torch.ops.aten.clamp_min(self.last(x), 0)
        return torch.ops.aten.clamp.default(self.last(x), 0)


class Maxima(Net):
    """With 0 as a tensor that changes neither shape nor type, and as lengths, which are integers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        x = torch.maximum(self.conv(x), torch.zeros(()))
        x = torch.max(self.last(x), torch.tensor(0.0)) + self.last(x).maximum(self.zero)
        y = self.last(x)
        lengths = torch.maximum(x.shape[0] * torch.ones(4, 1, 1, dtype=torch.int64), torch.tensor(0))
        return torch.maximum(y, torch.zeros_like(y)) * lengths


class Others(Net):
    """Each line is listed, with what to write."""

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        x = torch.maximum(torch.zeros(()), self.last(x))  # it is a maximum with 0; write torch.relu(x)
        x = torch.max(self.last(x), torch.zeros(1))  # it is a maximum with 0; write torch.relu(x)
        x = torch.where(x > 0, x, 0.0)  # it chooses x above 0, and 0 elsewhere; write torch.relu(x)
        x = torch.where(x < 0, torch.zeros_like(x), x)  # it chooses x above 0, and 0 elsewhere; write torch.relu(x)
        x = x * (x > 0)  # it is x where x > 0, and 0 elsewhere; write torch.relu(x)
        x = (0 < x).float() * x  # noqa: SIM300  # it is x where x > 0, and 0 elsewhere; write torch.relu(x)
        return torch.where(x > 1, x, 0.0) * (x < 0) + torch.maximum(x, x - 1) + x.max(1, keepdim=True)[0]


@pytest.mark.parametrize(("network", "sites"), [(Operators, 4), (Maxima, 5)])
def test_what_is_swapped(network: type[nn.Module], sites: int) -> None:
    """There and back again is where it was; a call on integers is guarded, and stays what it is for them."""
    module, x = make(network), example()
    result = swap(module, "relu", "leaky_relu", alpha=0.2, inputs=x)
    assert (len(result.sites), result.skipped) == (sites, ())
    again = swap(result.module, "leaky_relu", "relu", inputs=x)
    assert len(again.sites) == sites
    assert torch.equal(again.module(x), module(x))
    assert not torch.allclose(result.module(x), module(x))


def test_what_is_listed() -> None:
    result = swap(make(Others), "relu", "leaky_relu")
    assert not result.sites
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        lines = file.read().splitlines()
    assert all(lines[skip.line - 1].endswith(f"# {skip.reason}") for skip in result.skipped), result.skipped
    assert len(result.skipped) == 6
    assert swap(make(Others), "gelu", "leaky_relu").skipped == ()


class Scaled(Net):
    def forward(self, x: Tensor) -> Any:
        return torch.ops.aten.elu(self.conv(x), 1.0, 2.0)


def test_arguments_that_the_class_does_not_have() -> None:
    (skip,) = swap(make(Scaled), "elu", "relu").skipped
    assert skip.reason == "it is called with arguments that torch.nn's class does not have"


def test_exported_programs() -> None:
    """Their graphs call operators; the activations in them are those of the module."""
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Hardtanh(0.0, 6.0), nn.ELU(0.5)).eval()
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    program: nn.Module = torch.export.export(module, (x,)).module()
    for source in ("relu", "relu6", "elu"):
        result, expected = swap(program, source, "leaky_relu"), swap(module, source, "leaky_relu")
        assert (len(result.sites), result.skipped) == (1, ())
        assert torch.allclose(result.module(x), expected.module(x))


def hook(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
    return functional.relu(output)


class Around(Net):
    @property
    def head(self) -> Any:
        return functional.relu(self.last.weight)

    def __call__(self, x: Tensor) -> Any:
        return functional.relu(super().__call__(x))

    def forward(self, x: Tensor) -> Any:
        return functional.conv2d(self.conv(x), self.head)


def test_what_runs_around_forward_is_listed_without_inputs() -> None:
    module = make(Around)
    module.register_forward_hook(hook)
    result = swap(module, "relu", "leaky_relu")
    assert not result.sites
    assert sorted(skip.reason for skip in result.skipped) == [
        "it is in __call__, which is not rewritten; call it in forward",
        "it is in a hook, which is no part of forward; call it there",
        "it is in a property, which is not rewritten; call it in forward",
    ]


def test_a_report_without_inputs_says_that_they_show_more() -> None:
    line = "only the code was read; with inputs=, a run also shows calls that it does not show"
    module = make(Operators)
    assert line in swap(module, "relu", "gelu").summary()
    assert line not in swap(module, "relu", "gelu", inputs=example()).summary()
    assert onnxact.torch.swap(module, "relu", "gelu", inputs=example()).ran
