"""(a network) -> the same network with weights from a seed and batch statistics from one seeded batch, in eval mode.

settled(lambda: Net(), (4, 3, 64, 64))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def settled(build: Callable[[], Net], *shapes: Sequence[int]) -> Net:
    """Build with seed 0 and let every batch normalisation see one batch of N(0, 1) inputs of these shapes.

    Without it a network of random weights has statistics of nothing, and deep ones overflow or die out. The random
    state of the caller stays as it is.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = build()
        norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if norms:
            momenta = [norm.momentum for norm in norms]
            for norm in norms:
                norm.momentum = None  # the average of all batches: of this one
            net.train()(*(torch.randn(*shape) for shape in shapes))
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked.zero_()
    return net.eval()
