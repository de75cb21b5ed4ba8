"""Tiny Darknet: LeakyReLU with slope 0.1 throughout. image [N, 3, H, W] -> logits [N, 1000].

Redmon, Darknet: Open Source Neural Networks in C, 2013 to 2016, tiny.cfg (pjreddie.com/darknet/tiny-darknet); the
slope as in Redmon, Divvala, Girshick and Farhadi, You Only Look Once, 2016 (arXiv:1506.02640), equation 2.

    onnxact export models/darknet.py:tiny_darknet
"""

from __future__ import annotations

import torch
from seeding import settled
from torch import Tensor, nn

SLOPE = 0.1
POOL = 0
LAYERS = (
    16, POOL, 32, POOL, -16, 128, -16, 128, POOL, -32, 256, -32, 256, POOL, -64, 512, -64, 512, -128,
)  # fmt: skip
"""Channels of 3x3 convolutions; negative ones are 1x1."""


def conv(inputs: int, outputs: int, size: int) -> nn.Sequential:
    """Convolution, batch normalisation, LeakyReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE)
    )


class Darknet(nn.Module):
    """Convolutions with pooling in between, and a 1x1 convolution as the head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        features: list[nn.Module] = []
        inputs = 3
        for channels in LAYERS:
            if channels == POOL:
                features.append(nn.MaxPool2d(2))
            else:
                features.append(conv(inputs, abs(channels), 1 if channels < 0 else 3))
                inputs = abs(channels)
        self.features = nn.Sequential(*features)
        self.head = nn.Conv2d(inputs, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.features(image)).mean((2, 3))

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return one batch of ImageNet's size."""
        return (torch.zeros(2, 3, 224, 224),)


def tiny_darknet(classes: int = 1000) -> Darknet:
    """Return Tiny Darknet."""
    return settled(lambda: Darknet(classes), (4, 3, 64, 64))
