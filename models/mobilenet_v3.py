"""MobileNetV3-Small: ReLU, HardSwish, HardSigmoid in squeeze-and-excitation. image [N, 3, H, W] -> logits [N, 1000].

Howard, Sandler, Chu et al., Searching for MobileNetV3, 2019 (arXiv:1905.02244), table 2.

    onnxact export models/mobilenet_v3.py:mobilenet_v3_small
"""

from __future__ import annotations

import torch
from seeding import settled
from torch import Tensor, nn

BLOCKS = (
    (3, 16, 16, True, "relu", 2), (3, 72, 24, False, "relu", 2), (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2), (5, 240, 40, True, "hard_swish", 1), (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1), (5, 144, 48, True, "hard_swish", 1), (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1), (5, 576, 96, True, "hard_swish", 1),
)  # fmt: skip
"""Kernel, hidden channels, output channels, squeeze-and-excitation, activation, stride."""
ACTIVATIONS = {"relu": nn.ReLU, "hard_swish": nn.Hardswish, "": nn.Identity}


def conv(  # noqa: PLR0917
    inputs: int, outputs: int, size: int = 1, activation: str = "", stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch normalisation, activation."""
    layers = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layers, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01), ACTIVATIONS[activation]())


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate in 0..1, a HardSigmoid of the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, (channels // 4 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its gates."""
        return x * self.gate(self.fc2(self.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    """Expand, filter each channel, squeeze and excite, project."""

    def __init__(self, inputs: int, row: tuple[int, int, int, bool, str, int]) -> None:
        super().__init__()
        size, hidden, outputs, squeezes, activation, stride = row
        expand = [conv(inputs, hidden, activation=activation)] if hidden != inputs else []
        squeeze = [SqueezeExcitation(hidden)] if squeezes else []
        middle = conv(hidden, hidden, size, activation, stride, hidden)
        self.block = nn.Sequential(*expand, middle, *squeeze, conv(hidden, outputs))
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's value, plus x where shapes allow it."""
        return x + self.block(x) if self.is_residual else self.block(x)


class MobileNetV3(nn.Module):
    """A stem, 11 blocks, and a head of two linear layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        inputs = [16, *(row[2] for row in BLOCKS)]
        blocks = [Block(channels, row) for channels, row in zip(inputs, BLOCKS, strict=False)]
        stem, last = conv(3, 16, 3, "hard_swish", 2), conv(96, 576, activation="hard_swish")
        self.features = nn.Sequential(stem, *blocks, last)
        self.classifier = nn.Sequential(nn.Linear(576, 1024), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1024, classes))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.features(image).mean((2, 3)))

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return one batch of ImageNet's size."""
        return (torch.zeros(2, 3, 224, 224),)


def mobilenet_v3_small(classes: int = 1000) -> MobileNetV3:
    """Return MobileNetV3-Small."""
    return settled(lambda: MobileNetV3(classes), (4, 3, 96, 96))
