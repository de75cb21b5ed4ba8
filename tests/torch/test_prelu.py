"""Learnable slopes: how many, where they start, and that the number of channels is known or said not to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from onnxact.torch import swap
from tests.torch import networks
from tests.torch.networks import Net, example, make


class Residual(Net):
    """One ReLU module for two widths, as in a bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 12, 1)
        self.norm = nn.BatchNorm2d(12)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Any:
        out = self.relu(self.conv(x))
        out = self.wide(out)
        out = self.norm(out)
        out += torch.cat([x, x, x, x], 1)
        return self.relu(out)


class Branching(Net):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor, wide: bool = False) -> Any:
        y = self.wide(x) if wide else self.conv(x)
        one = functional.relu(y)
        if wide:
            x = self.wide(x)
            x = self.norm(x)
        else:
            x = self.conv(x)
        two = functional.relu(x)
        pooled = functional.relu(self.pool(self.conv(example())).flatten(1))
        flat = functional.relu(self.linear(torch.flatten(self.pool(self.last(pooled[:, :, None, None])), 1)))
        joined = functional.relu(
            torch.cat([self.last(pooled[:, :, None, None]), self.conv(example()[:, :, :1, :1])], dim=1)
        )
        return one.sum() + two.sum() + flat.sum() + joined.sum()


def channels(result: Any) -> dict[str, int]:
    return {site.path: site.slopes for site in result.sites}


def test_the_code_tells_the_number_of_channels() -> None:
    assert channels(swap(make(Residual), "relu", "prelu", per_channel=True)) == {"relu": 4, "relu_1": 12}
    result = swap(make(Branching), "relu", "prelu", per_channel=True)
    assert channels(result) == {"prelu": 1, "prelu_1": 1, "prelu_2": 1, "prelu_3": 5, "prelu_4": 8}
    assert result.notes == {
        "one slope for all: the number of channels is not in the code; give inputs": ["prelu", "prelu_1", "prelu_2"]
    }


def test_a_run_tells_the_number_of_channels() -> None:
    result = swap(make(Branching), "relu", "prelu", per_channel=True, inputs=example())
    assert channels(result) == {"prelu": 4, "prelu_1": 4, "prelu_2": 4, "prelu_3": 5, "prelu_4": 8}
    result = swap(make(Branching), "relu", "prelu", per_channel=True, inputs={"x": example(), "wide": True})
    assert channels(result)["prelu"] == 8


def test_one_slope_where_nothing_else_is_asked_for() -> None:
    result = swap(make(Residual), "relu", "prelu")
    assert channels(result) == {"relu": 1, "relu_1": 1} and not result.notes
    assert result.module.get_parameter("relu.weight").tolist() == [0.25]


class Loop(Net):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)])

    def forward(self, x: Tensor) -> Any:
        for conv in self.convs:
            x = functional.relu(conv(x))
        return x


def test_a_loop_is_one_place() -> None:
    result = swap(make(Loop), "relu", "prelu", inputs=example())
    assert result.notes == {"called 2 times in one run with the same slopes": ["prelu"]}
    result = swap(make(Loop), "relu", "prelu", per_channel=True, inputs=example())
    assert result.notes == {"one slope for all: it is called with 4 and with 6 channels": ["prelu"]}
    result.module(example())


def test_features_on_the_last_axis_are_no_channels() -> None:
    x = torch.randn(2, 7, 5)
    mlp = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))
    for inputs in (None, x):
        result = swap(mlp, "relu", "prelu", per_channel=True, inputs=inputs)
        assert channels(result) == {"1": 1}
        result.module(torch.randn(2, 9, 5))
    assert list(result.notes) == [
        "one slope for all: its features lie on the last axis, and torch.nn.PReLU's channels on axis 1"
    ]
    assert channels(swap(mlp, "relu", "prelu", per_channel=True, inputs=x[0])) == {"1": 6}
    flat = nn.Sequential(nn.Flatten(), nn.Linear(35, 6), nn.ReLU())
    assert channels(swap(flat, "relu", "prelu", per_channel=True)) == {"2": 6}


def test_nested_sequentials_hand_their_channels_on() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU())), nn.Dropout(), nn.ReLU()
    )
    assert channels(swap(module, "relu", "prelu", per_channel=True)) == {"1.1.0": 4, "3": 4}


def test_gradients_of_slopes_are_those_of_prelu() -> None:
    module, x = make(networks.SharedModule), example()
    swapped = swap(module, "relu", "prelu", alpha=0.3, per_channel=True).module
    swapped(x).sum().backward()
    first, last = (swapped.get_parameter(f"{path}.weight") for path in ("act", "act_1"))
    hidden = swapped.get_submodule("conv")(x)
    entering = swapped.get_submodule("last")(functional.prelu(hidden, first))
    expected = torch.minimum(entering, torch.zeros(())).sum((0, 2, 3))
    assert last.grad is not None and torch.allclose(last.grad, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", ["leaky_relu", "relu"])
def test_slopes_go_where_nothing_learns(to: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4), nn.PReLU())
    result = swap(module, "prelu", to)
    assert set(result.module.state_dict()) == {"0.weight", "0.bias"}
    assert result.sites[1].before.params == {"slope": 0.25}


def test_equal_activations_are_left() -> None:
    module = nn.Sequential(nn.LeakyReLU(0.2), nn.LeakyReLU(0.1))
    result = swap(module, "leaky_relu", "leaky_relu", alpha=0.2)
    assert [site.path for site in result.sites] == ["1"]
    assert result.skipped[0].reason == "it is leaky-relu with these parameters already"
