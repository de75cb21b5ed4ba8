"""The discriminator of DCGAN: LeakyReLU 0.2 in place, Sigmoid at the end. image [N, 3, 64, 64] -> realness [N].

Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks, 2016 (arXiv:1511.06434), section 3.

    onnxact export models/discriminator.py:discriminator
"""

from __future__ import annotations

from itertools import pairwise

import torch
from seeding import settled
from torch import Tensor, nn

SLOPE = 0.2


class Discriminator(nn.Module):
    """Strided convolutions down to one number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width, width * 2, width * 4, width * 8]
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(SLOPE, inplace=True)]
        for inputs, outputs in pairwise(channels):
            layers += [
                nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        self.main = nn.Sequential(*layers, nn.Conv2d(width * 8, 1, 4, bias=False), nn.Sigmoid())

    def forward(self, image: Tensor) -> Tensor:
        """Return the probability that each image is real."""
        return self.main(image).flatten()

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return two images; their size is fixed."""
        return (torch.zeros(2, 3, 64, 64),)


def discriminator(width: int = 64) -> Discriminator:
    """Return the discriminator; `width` is the number of channels of its first layer."""
    return settled(lambda: Discriminator(width), (4, 3, 64, 64))
