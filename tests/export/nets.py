"""Small modules for the tests, good and bad; a file that `onnxact export` can be given."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Block(nn.Module):
    """One module called twice, and functionals."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.conv(self.relu(self.conv(x))) + x)
        return y


class Net(nn.Module):
    """Modules, functionals, a shared module, an activation at the root."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.layer1 = nn.Sequential(Block(width), Block(width))
        self.layer10 = Block(width)
        self.act = nn.LeakyReLU(0.1)
        self.fc = nn.Linear(width, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.act(self.stem(image))
        x = self.act(self.layer10(self.layer1(x)))
        return F.relu(self.fc(x.mean((2, 3))))

    def example_inputs(self) -> tuple[Tensor, ...]:
        return (torch.zeros(2, 3, 8, 8),)


def net() -> Net:
    """Weights from a seed; a bias that keeps values on both sides of zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net()


class Linear(nn.Module):
    """x [N, 4] -> relu(l(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.l(x))


class Wide(nn.Module):
    """x [N, 64] -> relu(l(x)), with 16 KiB of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.l(x)
        return y.relu()


class Table(nn.Module):
    """Integers and floats by name, one of them with a default, and a plain number."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)

    def forward(
        self, ids: Tensor, weight: Tensor, shift: Tensor | None = None, scale: float = 2.0
    ) -> dict[str, Tensor]:
        x = F.leaky_relu(self.embedding(ids) * weight * scale, 0.2)
        return {"x": x if shift is None else x + shift, "sum": x.sum(-1)}


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x.relu()
        return x * 2


class TrainingOnly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            raise RuntimeError("this is for training")
        return x.relu()


class StaysInTraining(nn.Module):
    def train(self, mode: bool = True) -> StaysInTraining:
        return super().train(True)

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


class RefusesEvaluation(nn.Module):
    def eval(self) -> RefusesEvaluation:
        raise NotImplementedError("no evaluation here")

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


class Random(nn.Module):
    """Dropout without training=self.training."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5).relu()


class NoisySlopes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.rrelu(x, training=True)


class OneSize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(3, 4).relu()


class Together(nn.Module):
    """Two inputs whose axes meet."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return F.relu(ids) * mask


class NoInputs(nn.Module):
    """Only what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, 6))

    def forward(self) -> Tensor:
        return F.relu(self.table)


class Shapes(nn.Module):
    """Weights without values."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(4, 4, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.l(x))


class Airy(nn.Module):
    """An operator that ONNX lacks."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.special.airy_ai(x)
        return y.relu()


class NoTensor(nn.Module):
    def forward(self, x: Tensor) -> int:
        return 3


class BadExample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu()

    def example_inputs(self) -> Any:
        raise ValueError("no example today")


class Lightning(nn.Module):
    """Lightning's convention."""

    example_input_array = torch.zeros(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


def number() -> int:
    return 3


def nothing() -> None:
    return None


def wide(width: int) -> nn.Module:
    return nn.Linear(width, width)


def failing() -> nn.Module:
    raise ValueError("out of luck")


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))


def wrong_slope() -> nn.Module:
    """For tests that change the exported file."""
    return nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.2))


VALUE = 5
INSTANCE = nn.ReLU()
print("imported")  # noqa: T201 - as some files do
