"""MobileNetV2: ReLU6 in inverted residuals. image [N, 3, H, W] -> logits [N, 1000].

Sandler, Howard, Zhu, Zhmoginov and Chen, MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018
(arXiv:1801.04381), table 2.

    onnxact export models/mobilenet_v2.py:mobilenet_v2
"""

from __future__ import annotations

import torch
from seeding import settled
from torch import Tensor, nn

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, output channels, blocks, stride of the first block."""


def conv(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the projection has no activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [conv(inputs, hidden)] if expansion != 1 else []
        project = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*expand, conv(hidden, hidden, 3, stride, groups=hidden), *project)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's value, plus x where shapes allow it."""
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(nn.Module):
    """A stem, 17 inverted residuals, and a linear head."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        channels = [max(8, int(count * width)) for _, count, _, _ in STAGES]
        inputs = max(8, int(32 * width))
        features: list[nn.Module] = [conv(3, inputs, 3, stride=2)]
        for (expansion, _, blocks, first_stride), outputs in zip(STAGES, channels, strict=True):
            for number in range(blocks):
                features.append(InvertedResidual(inputs, outputs, first_stride if number == 0 else 1, expansion))
                inputs = outputs
        last = int(1280 * max(1.0, width))
        self.features = nn.Sequential(*features, conv(inputs, last))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.features(image).mean((2, 3)))

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return one batch of ImageNet's size."""
        return (torch.zeros(2, 3, 224, 224),)


def mobilenet_v2(width: float = 1.0, classes: int = 1000) -> MobileNetV2:
    """Return MobileNetV2; `width` multiplies all channels."""
    return settled(lambda: MobileNetV2(width, classes), (4, 3, 96, 96))
