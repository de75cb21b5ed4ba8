"""Every activation of torch.nn as a module, as a functional, and in place, in one network: one export tells of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

CHANNELS = 3
Function = Callable[[Tensor], Tensor]


def _prelu() -> nn.PReLU:
    module = nn.PReLU(CHANNELS)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.25, -0.5, 1.5]))
    return module


MODULES: Mapping[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "LeakyReLU": lambda: nn.LeakyReLU(0.2),
    "LeakyReLU_default": nn.LeakyReLU,
    "PReLU": nn.PReLU,
    "PReLU_channels": _prelu,
    "RReLU": nn.RReLU,
    "RReLU_bounds": lambda: nn.RReLU(0.2, 0.4),
    "Threshold": lambda: nn.Threshold(0.5, -3.0),
    "ELU": lambda: nn.ELU(0.7),
    "CELU": lambda: nn.CELU(0.7),
    "SELU": nn.SELU,
    "Softplus": nn.Softplus,
    "Softplus_beta": lambda: nn.Softplus(2.0, 5.0),
    "Softsign": nn.Softsign,
    "Sigmoid": nn.Sigmoid,
    "LogSigmoid": nn.LogSigmoid,
    "Tanh": nn.Tanh,
    "Hardtanh": lambda: nn.Hardtanh(-0.3, 2.5),
    "Hardsigmoid": nn.Hardsigmoid,
    "Hardswish": nn.Hardswish,
    "SiLU": nn.SiLU,
    "Mish": nn.Mish,
    "GELU": nn.GELU,
    "GELU_tanh": lambda: nn.GELU(approximate="tanh"),
    "Softshrink": lambda: nn.Softshrink(0.5),
    "Hardshrink": lambda: nn.Hardshrink(0.5),
    "Tanhshrink": nn.Tanhshrink,
    "GLU": lambda: nn.GLU(-1),
}
IN_PLACE: Mapping[str, Callable[[], nn.Module]] = {
    "ReLU": lambda: nn.ReLU(inplace=True),
    "ReLU6": lambda: nn.ReLU6(inplace=True),
    "LeakyReLU": lambda: nn.LeakyReLU(0.2, inplace=True),
    "RReLU": lambda: nn.RReLU(inplace=True),
    "Threshold": lambda: nn.Threshold(0.5, -3.0, inplace=True),
    "ELU": lambda: nn.ELU(0.7, inplace=True),
    "CELU": lambda: nn.CELU(0.7, inplace=True),
    "SELU": lambda: nn.SELU(inplace=True),
    "Hardtanh": lambda: nn.Hardtanh(-0.3, 2.5, inplace=True),
    "Hardsigmoid": lambda: nn.Hardsigmoid(inplace=True),
    "Hardswish": lambda: nn.Hardswish(inplace=True),
    "SiLU": lambda: nn.SiLU(inplace=True),
    "Mish": lambda: nn.Mish(inplace=True),
}
FUNCTIONS: Mapping[str, Function] = {
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "x.relu": lambda x: x.relu(),
    "F.relu6": F.relu6,
    "F.leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "F.prelu": lambda x: F.prelu(x, torch.tensor([0.3], dtype=x.dtype)),
    "F.rrelu": lambda x: F.rrelu(x, 0.1, 0.3),
    "F.threshold": lambda x: F.threshold(x, 0.5, -3.0),
    "F.elu": lambda x: F.elu(x, 0.7),
    "F.celu": lambda x: F.celu(x, 0.7),
    "F.selu": F.selu,
    "F.softplus": lambda x: F.softplus(x, 2.0, 5.0),
    "F.softsign": F.softsign,
    "torch.sigmoid": torch.sigmoid,
    "F.logsigmoid": F.logsigmoid,
    "torch.tanh": torch.tanh,
    "F.hardtanh": lambda x: F.hardtanh(x, -0.3, 2.5),
    "F.hardsigmoid": F.hardsigmoid,
    "F.hardswish": F.hardswish,
    "F.silu": F.silu,
    "F.mish": F.mish,
    "F.gelu": F.gelu,
    "F.gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "F.softshrink": lambda x: F.softshrink(x, 0.5),
    "F.hardshrink": lambda x: F.hardshrink(x, 0.5),
    "F.tanhshrink": F.tanhshrink,
    "F.glu": lambda x: F.glu(x, -1),
    "F.relu_": lambda x: F.relu_(x.clone()),
    "x.relu_": lambda x: x.clone().relu_(),
    "F.leaky_relu_": lambda x: F.leaky_relu_(x.clone(), 0.2),
    "F.rrelu_": lambda x: F.rrelu_(x.clone(), 0.1, 0.3),
    "F.threshold_": lambda x: F.threshold_(x.clone(), 0.5, -3.0),  # type: ignore[attr-defined]
    "F.elu_": lambda x: F.elu_(x.clone(), 0.7),
    "F.celu_": lambda x: F.celu_(x.clone(), 0.7),
    "F.selu_": lambda x: F.selu_(x.clone()),
    "F.hardtanh_": lambda x: F.hardtanh_(x.clone(), -0.3, 2.5),
    "torch.sigmoid_": lambda x: torch.sigmoid_(x.clone()),
    "torch.tanh_": lambda x: torch.tanh_(x.clone()),
}


class Activations(nn.Module):
    """x [1, 3, N] -> every activation of x."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.ModuleDict({name: build() for name, build in MODULES.items()})
        self.in_place = nn.ModuleDict({name: build() for name, build in IN_PLACE.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """What the outputs are, in order."""
        return (*self.plain, *(f"{name} in place" for name in self.in_place), *FUNCTIONS)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return every activation."""
        return tuple(self._all(x))

    def _all(self, x: Tensor) -> Iterator[Tensor]:
        yield from (module(x) for module in self.plain.values())
        yield from (module(x.clone()) for module in self.in_place.values())
        yield from (function(x) for function in FUNCTIONS.values())
