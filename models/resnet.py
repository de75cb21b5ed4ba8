"""ResNet-18: 2 x ReLU a block, one module called twice. image [N, 3, H, W] -> logits [N, 1000].

He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, 2015 (arXiv:1512.03385). The keys of its state
dict are torchvision's.

    onnxact export models/resnet.py:resnet18
"""

from __future__ import annotations

import torch
from seeding import settled
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + convolutions(x))."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """A stem, four stages of basic blocks, and a linear head."""

    def __init__(self, blocks: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for number, count in enumerate(blocks):
            outputs, strides = width << number, [1 if number == 0 else 2] + [1] * (count - 1)
            stage = [BasicBlock(channels if i == 0 else outputs, outputs, stride) for i, stride in enumerate(strides)]
            setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
            channels = outputs
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return one batch of ImageNet's size."""
        return (torch.zeros(2, 3, 224, 224),)


def resnet18(width: int = 64, classes: int = 1000) -> ResNet:
    """Return ResNet-18; `width` is the number of channels of the first stage."""
    return settled(lambda: ResNet((2, 2, 2, 2), width, classes), (4, 3, 64, 64))
