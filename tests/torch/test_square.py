"""export(swap(m)) is onnxact.swap(export(m)): for every pair of the table, every way of writing it, every model."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import onnxact
from onnxact.torch import check_square
from onnxact.torch.classes import ROWS
from tests.torch import networks
from tests.torch.networks import example, make
from tests.torch.squares import Pairs, check_squares, demand_same, rotated, sites_by_path

GROUP = 4
GROUPS = [list(ROWS)[first : first + GROUP] for first in range(0, len(ROWS), GROUP)]
EVERYTHING = os.environ.get("ONNXACT_SQUARES") == "all"
"""Whether every model is swapped to every activation, which takes a quarter of an hour; else each to some of them."""


@pytest.mark.parametrize("sources", GROUPS, ids=" ".join)
def test_every_pair(sources: list[str]) -> None:
    module = Pairs(sources).eval()
    assert len(module.exchanges) == len(sources) * (len(ROWS) - 1)
    verdict = check_squares(module, (torch.linspace(-3, 3, 48).reshape(8, 6),), module.exchanges)
    assert len(verdict.output_outcomes()) == len(module.exchanges)
    verdict.raise_unless_equivalent()


@pytest.mark.parametrize(
    "network",
    [networks.InPlaceFunctionals, networks.Clamps, networks.Flow, networks.Encoder],
    ids=lambda network: network.__name__,
)
def test_every_way_of_writing_it(network: type[nn.Module]) -> None:
    square = check_square(make(network), example(), "relu", "prelu", alpha=0.3, per_channel=True)
    assert square.in_onnx.changed and square.in_torch.changed
    demand_same(square.verdict)


def test_what_pytorch_cannot_reach_is_seen_in_the_square() -> None:
    """A copy of ReLU that the code does not show: ONNX has one site more, and the models differ."""
    square = check_square(make(Maximum), example(), "relu", "leaky_relu", alpha=0.2)
    assert (square.verdict.outcome, len(square.in_torch.sites), len(square.in_onnx.sites)) == ("different", 1, 2)
    assert "in PyTorch:" in square.summary()
    with pytest.raises(onnxact.NotEquivalent):
        square.raise_unless_equivalent()


class Maximum(networks.Net):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.maximum(self.last(torch.relu(self.conv(x))), torch.zeros(()))


def test_the_module_stays_as_it_was() -> None:
    module = make(networks.Module).train()
    square = check_square(module, example(), "relu", "leaky_relu", include="^act", seeds=(3,))
    assert square.equivalent and module.training and repr(module.get_submodule("act")) == "ReLU()"


MODELS: dict[str, dict[str, Any]] = {
    "resnet.resnet18": {"width": 8, "classes": 10},
    "mobilenet_v2.mobilenet_v2": {"width": 0.25, "classes": 10},
    "mobilenet_v3.mobilenet_v3_small": {"classes": 10},
    "darknet.tiny_darknet": {"classes": 10},
    "iresnet.iresnet18": {"width": 8, "features": 16},
    "unet.unet": {"width": 4, "depth": 4},
    "discriminator.discriminator": {"width": 8},
    "transformer.transformer_block": {},
    "transformer.transformer_block_tanh": {},
    "gated_rnn.light_gru": {},
    "branching.branchy_net": {},
}


def build(name: str) -> nn.Module:
    folder = str(Path(networks.__file__).resolve().parents[2] / "models")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module, _, function = name.partition(".")
    built: nn.Module = getattr(importlib.import_module(module), function)(**MODELS[name])
    return built


@pytest.mark.parametrize("start", range(len(ROWS) - 1) if EVERYTHING else [0])
@pytest.mark.parametrize("name", MODELS)
def test_every_model(name: str, start: int) -> None:
    """Each activation of a model is swapped to another one of the table; `start` shifts which."""
    module: Any = build(name)
    exchanges = rotated(module, start + 5 * list(MODELS).index(name))
    assert exchanges
    (inputs,) = module.example_inputs()
    if inputs.shape[-1] == 224:
        inputs = torch.zeros(2, 3, 64, 64)
    demand_same(check_squares(module, (inputs,), exchanges, seeds=(0,)))


def test_all_models_are_there() -> None:
    folder = Path(networks.__file__).resolve().parents[2] / "models"
    files = {path.stem for path in folder.glob("*.py") if "    def example_inputs(" in path.read_text()}
    assert files == {name.partition(".")[0] for name in MODELS}
    assert all(sites_by_path(build(name)) for name in MODELS)
