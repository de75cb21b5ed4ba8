"""Classes of torch.nn that cannot write in place -> classes that do: InplacePReLU()(x) leaves the result in x.

A swap of an activation that writes into its input keeps what other readers of that tensor see. PyTorch's own in-place
kernels save a copy of their input where its gradient needs one, and so do these.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _saved(x: Tensor) -> Tensor:
    """Return what the result is computed from: a copy where the gradient will ask for it."""
    return x.clone() if torch.is_grad_enabled() else x


class InplacePReLU(nn.PReLU):
    """PReLU that writes its result into its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.copy_(functional.prelu(_saved(input), self.weight))


class InplaceSoftplus(nn.Softplus):
    """Softplus that writes its result into its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.copy_(functional.softplus(_saved(input), self.beta, self.threshold))


class InplaceSoftsign(nn.Softsign):
    """Softsign that writes its result into its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.copy_(functional.softsign(_saved(input)))


class InplaceSigmoid(nn.Sigmoid):
    """Sigmoid that writes its result into its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.sigmoid_()


class InplaceTanh(nn.Tanh):
    """Tanh that writes its result into its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.tanh_()


class InplaceLogSigmoid(nn.LogSigmoid):
    """LogSigmoid that writes its result into its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.copy_(functional.logsigmoid(_saved(input)))


class InplaceGELU(nn.GELU):
    """GELU that writes its result into its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.copy_(functional.gelu(_saved(input), approximate=self.approximate))


class InplaceLeakyReLU(nn.LeakyReLU):
    """LeakyReLU that writes its result into its input, with a gradient for slopes below 0 too."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.copy_(functional.leaky_relu(_saved(input), self.negative_slope))


class InplaceELU(nn.ELU):
    """ELU that writes its result into its input, with a gradient for alpha below 0 too."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`, which holds the result."""
        return input.copy_(functional.elu(_saved(input), self.alpha))


IN_PLACE: dict[str, type[nn.Module]] = {
    row.__base__.__name__: row
    for row in (
        InplacePReLU,
        InplaceSoftplus,
        InplaceSoftsign,
        InplaceSigmoid,
        InplaceTanh,
        InplaceLogSigmoid,
        InplaceGELU,
        InplaceLeakyReLU,
        InplaceELU,
    )
    if row.__base__ is not None
}
"""Class of torch.nn -> the one derived from it."""
