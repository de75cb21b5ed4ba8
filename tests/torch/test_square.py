"""export(swap(m)) is onnxact.swap(export(m)): for every pair of the table, every way of writing it, every model."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import ModelProto
from torch import nn

import onnxact
from onnxact.torch import check_square
from onnxact.torch.alike import difference
from onnxact.torch.classes import ROWS
from onnxact.torch.square import exported, with_own_names
from tests.torch import networks
from tests.torch.networks import example, make
from tests.torch.squares import Pairs, rounds, sites_by_path, walk

GROUP = 4
GROUPS = [list(ROWS)[first : first + GROUP] for first in range(0, len(ROWS), GROUP)]


@pytest.mark.parametrize("sources", GROUPS, ids=" ".join)
def test_every_pair(sources: list[str]) -> None:
    module = Pairs(sources).eval()
    assert len(module.exchanges) == len(sources) * (len(ROWS) - 1)
    inputs = (torch.linspace(-3, 3, 48).reshape(8, 6),)
    ends = walk(module, exported(module, inputs), inputs, module.exchanges)
    assert len(ends.torch_first.graph.output) == len(module.exchanges)
    ends.demand_same()
    onnxact.check(ends.onnx_first, with_own_names(ends.torch_first)).raise_unless_equivalent()


@pytest.mark.parametrize(
    "network", [networks.InPlaceFunctionals, networks.Clamps, networks.Encoder], ids=lambda network: network.__name__
)
def test_every_way_of_writing_it(network: type[nn.Module]) -> None:
    square = check_square(make(network), example(), "relu", "prelu", alpha=0.3, per_channel=True)
    assert square.in_onnx.changed and square.in_torch.changed
    square.raise_unless_equivalent()


def test_a_site_that_nothing_can_reach_is_inconclusive_and_named() -> None:
    """What enters it is prelu(x) + prelu(-x) = 0.7 |x|; PyTorch's exporter folds the 0 that sum() begins with otherwise
    for Relu than for PRelu, so that the models are not the same up to names.
    """
    square = check_square(make(networks.Flow), example(), "relu", "prelu", alpha=0.3, per_channel=True)
    assert set(square.verdict.output_outcomes().values()) == {"equivalent"}
    assert square.verdict.outcome == "inconclusive"
    unreached = "no value below 0 entered 4 of 4 channels (0, 1, 2, 3)"
    apart = "and differs on its own"
    assert all(reason.endswith(unreached) or apart in reason for reason in square.verdict.reasons)
    assert any(reason.endswith(unreached) for reason in square.verdict.reasons)
    named = [reason.partition(":")[0] for reason in square.verdict.reasons]
    assert named[:2] == ["site 'Relu_5'", "site 'torch_first/PRelu_1'"]


def test_what_pytorch_cannot_reach_is_seen_in_the_square() -> None:
    """A maximum that is listed, and not swapped: ONNX has one site more, and the models differ."""
    square = check_square(make(Maximum), example(), "relu", "leaky_relu", alpha=0.2)
    assert (square.verdict.outcome, len(square.in_torch.sites), len(square.in_onnx.sites)) == ("different", 1, 2)
    assert "in PyTorch:" in square.summary()
    with pytest.raises(onnxact.NotEquivalent):
        square.raise_unless_equivalent()


class Maximum(networks.Net):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.maximum(torch.zeros(()), self.last(torch.relu(self.conv(x))))


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


@pytest.mark.parametrize("name", MODELS)
def test_every_model(name: str) -> None:
    """Each activation of a model is swapped to each other one of the table; the first round is run as well."""
    module: Any = build(name)
    inputs = tuple(torch.zeros(2, 3, 64, 64) if x.shape[-1] == 224 else x for x in module.example_inputs())
    planned, model = rounds(module), exported(module, inputs)
    pairs = {(exchange.source, exchange.to) for exchanges in planned for exchange in exchanges}
    assert pairs == {(source, to) for _, source in sites_by_path(module) for to in ROWS if to != source}
    for number, exchanges in enumerate(planned):
        ends = walk(module, model, inputs, exchanges)
        ends.demand_same()
        if number == 0:
            ends.demand_equivalent(seeds=(0,))


def test_what_no_input_reaches_needs_none_where_the_models_are_the_same() -> None:
    """In branches; where they are not the same, nothing is said to be equivalent."""
    square = check_square(build("branching.branchy_net"), None, "relu", "softplus")
    square.raise_unless_equivalent()
    assert "the same model up to names" in square.verdict.notes[-1]
    assert not difference(square.onnx_first, square.torch_first)
    damaged = ModelProto()
    damaged.CopyFrom(square.onnx_first)
    (tensor,) = [item for item in damaged.graph.initializer if item.name == "trunk.0.bias"]
    tensor.raw_data = tensor.raw_data[:-1] + bytes([tensor.raw_data[-1] ^ 1])
    assert "trunk.0.bias" in difference(damaged, square.torch_first)


DAMAGES: dict[str, tuple[str, str, str]] = {
    "an operand": ("Sub(x, w)", "Sub(w, x)", "are other inputs"),
    "an op": ("Add(x, w)", "Sub(x, w)", "Add"),
    "an attribute": ("LeakyRelu <alpha = 0.1> (x)", "LeakyRelu <alpha = 0.2> (x)", "alpha of leaky_relu"),
    "an activation": ("Relu(x)", "Softsign(x)", "relu and softsign"),
    "another attribute": ("Concat <axis = 0> (x, w)", "Concat <axis = 1> (x, w)", "attribute axis"),
    "nothing": ("Add(x, w)", "Add(x, w)", ""),
    "a form": ("Softsign(x)", "Div(x, b)\n a = Abs(x)\n b = Add(one, a)", ""),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_differences_are_found(what: str) -> None:
    left, right, words = DAMAGES[what]
    found = difference(one_node(left), one_node(right))
    assert words in found if words else not found


def one_node(text: str) -> ModelProto:
    head = '<ir_version: 8, opset_import: ["": 20]> m (float[2,2] x, float[2,2] w) => (float y) <float one = {1}> '
    first, *others = text.splitlines()
    return onnx.parser.parse_model(head + "{" + "\n".join([*others, f"y = {first}"]) + "}")


def test_all_models_are_there() -> None:
    folder = Path(networks.__file__).resolve().parents[2] / "models"
    files = {path.stem for path in folder.glob("*.py") if "    def example_inputs(" in path.read_text()}
    assert files == {name.partition(".")[0] for name in MODELS}
    assert all(sites_by_path(build(name)) for name in MODELS)
