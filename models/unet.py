"""A U-Net after pix2pix: LeakyReLU 0.2 on the way down, ReLU on the way up, Tanh at the end. [N, 3, H, W] both ways.

Ronneberger, Fischer and Brox, U-Net, 2015 (arXiv:1505.04597); Isola, Zhu, Zhou and Efros, Image-to-Image Translation
with Conditional Adversarial Networks, 2017 (arXiv:1611.07004), section 6.1.

    onnxact export models/unet.py:unet
"""

from __future__ import annotations

from itertools import pairwise

import torch
from seeding import settled
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2


class Level(nn.Module):
    """Half the size, what is inside, the size again; the input is joined to the result."""

    def __init__(self, outer: int, inner: int, inside: nn.Module) -> None:
        super().__init__()
        self.down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(inner)
        self.inside = inside
        self.up = nn.ConvTranspose2d(inner * (1 if isinstance(inside, nn.Identity) else 2), outer, 4, 2, 1, bias=False)
        self.up_norm = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 2 * outer, H, W]; the skip holds what the LeakyReLU made of x."""
        x = functional.leaky_relu(x, SLOPE)
        y = functional.relu(self.inside(self.down_norm(self.down(x))))
        return torch.cat([x, self.up_norm(self.up(y))], 1)


class UNet(nn.Module):
    """`depth` levels, with twice the channels at each of the first three."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        channels = [width << min(level, 3) for level in range(depth)]
        inside: nn.Module = nn.Identity()
        for outer, inner in reversed(list(pairwise(channels))):
            inside = Level(outer, inner, inside)
        self.first = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.inside = inside
        self.last = nn.ConvTranspose2d(width * 2, 3, 4, stride=2, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return an image with values in -1..1."""
        return torch.tanh(self.last(functional.relu(self.inside(self.first(image)))))

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return one batch of small images."""
        return (torch.zeros(2, 3, 128, 128),)


def unet(width: int = 16, depth: int = 6) -> UNet:
    """Return a U-Net for images whose sides are divisible by 2^depth; the paper has width 64 and depth 8."""
    return settled(lambda: UNet(width, depth), (4, 3, 2 << depth, 2 << depth))
