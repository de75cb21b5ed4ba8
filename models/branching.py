"""BranchyNet: what is easy leaves early. Which way is taken depends on the data: torch.cond, and a ReLU on each side.

Teerapittayanon, McDanel and Kung, BranchyNet: Fast Inference via Early Exiting from Deep Neural Networks, 2016
(arXiv:1709.01686); here a whole batch leaves when the mean entropy of its predictions is low.
features [N, 16] -> logits [N, 10].

    onnxact export models/branching.py:branchy_net
"""

from __future__ import annotations

import torch
from seeding import settled
from torch import Tensor, nn


class BranchyNet(nn.Module):
    """A trunk, an early exit, and what lies behind it."""

    def __init__(self, inputs: int, hidden: int, classes: int, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.trunk = nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(0.1))
        self.early = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        self.late = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.Hardswish(), nn.Linear(hidden, classes)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of the early exit where they are sure enough, else those of the late one."""
        x = self.trunk(features)
        log_p = torch.log_softmax(self.early(x), -1)
        entropy = -(log_p.exp() * log_p).sum(-1).mean()
        return torch.cond(entropy < self.threshold, self.early, self.late, (x,))

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return two samples."""
        return (torch.zeros(2, self.trunk[0].in_features),)


def branchy_net(inputs: int = 16, hidden: int = 32, classes: int = 10, threshold: float = 2.25) -> BranchyNet:
    """Return the network; the greatest possible entropy is log(classes), 2.30 for ten."""
    return settled(lambda: BranchyNet(inputs, hidden, classes, threshold))
