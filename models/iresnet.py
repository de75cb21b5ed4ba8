"""IResNet-18: PReLU with one slope a channel. face [N, 3, 112, 112] -> embedding [N, 512].

Deng, Guo, Xue and Zafeiriou, ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019 (arXiv:1801.07698),
section 3.1; its block after Han, Kim and Kim, Deep Pyramidal Residual Networks, 2017 (arXiv:1610.02915).

    onnxact export models/iresnet.py:iresnet18
"""

from __future__ import annotations

import torch
from seeding import settled
from torch import Tensor, nn

SIZE = 112


class Block(nn.Module):
    """Batch normalisation first, one PReLU between the convolutions, none behind the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut(x) + convolutions(x)."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + self.downsample(x)


class IResNet(nn.Module):
    """A stem, four stages that each halve the image, and a linear embedding of all that is left."""

    def __init__(self, blocks: tuple[int, ...], width: int, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        channels = width
        for number, count in enumerate(blocks):
            outputs, stage = width << number, []
            for i in range(count):
                stage.append(Block(channels, outputs, 2 if i == 0 else 1))
                channels = outputs
            setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
        self.bn2 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels * (SIZE // 16) ** 2, features)
        self.features = nn.BatchNorm1d(features)
        for module in self.modules():
            if isinstance(module, nn.PReLU):
                nn.init.uniform_(module.weight, 0.0, 0.5)

    def forward(self, face: Tensor) -> Tensor:
        """Return the embedding."""
        x = self.prelu(self.bn1(self.conv1(face)))
        x = self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return self.features(self.fc(torch.flatten(x, 1)))

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return two faces; their size is fixed."""
        return (torch.zeros(2, 3, SIZE, SIZE),)


def iresnet18(width: int = 64, features: int = 512) -> IResNet:
    """Return IResNet-18; `width` is the number of channels of the first stage."""
    return settled(lambda: IResNet((2, 2, 2, 2), width, features), (4, 3, SIZE, SIZE))
