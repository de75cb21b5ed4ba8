"""Small networks that call ReLU in every way that PyTorch has, each on an input float32 [2, 3, 6, 6] or [2, 5]."""

# ruff: noqa: N812, SIM108 - the ways in which networks are written
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import relu
from torch.nn.functional import relu as rectify

RELUS: dict[str, Any] = {"relu": F.relu, "gelu": F.gelu}
LAYER = nn.ReLU()
partial_relu = functools.partial(F.relu, inplace=False)


class Net(nn.Module):
    """A convolution with four channels, which the others call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 1)


class Module(Net):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Any:
        return self.last(self.act(self.conv(x)))


class InPlaceModule(Net):
    """The shortcut sees what the activation wrote into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Any:
        shortcut = self.conv(x)
        return self.last(self.act(shortcut)) + shortcut


class SharedModule(Net):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Any:
        x = self.act(self.conv(x))
        return self.act(self.last(x))


class SharedInSequential(Net):
    def __init__(self) -> None:
        super().__init__()
        act = nn.ReLU()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 6, 1), act)

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


class Functionals(Net):
    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.conv(x))
        x = torch.relu(self.last(x))
        x = relu(self.last(x)) + rectify(-self.last(x))
        x = functional.relu(input=self.last(x))
        return nn.functional.relu(self.last(x), inplace=False) + torch.Tensor.relu(self.last(-x))


class InPlaceFunctionals(Net):
    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        y = F.relu(x, inplace=True) + x
        y.relu_()
        z = self.last(y)
        torch.relu_(z)
        w = self.last(z)
        F.relu_(w)
        return self.last(F.relu(w - 0.1, True))


class Methods(Net):
    def forward(self, x: Tensor) -> Any:
        return self.last(self.conv(x).relu()).relu() - self.conv(-x).relu()


class Clamps(Net):
    def forward(self, x: Tensor) -> Any:
        x = self.conv(x).clamp(min=0)
        x = torch.clamp(self.last(x), 0) + self.last(x).clamp_min(0.0)
        return torch.clip(self.last(x), min=0.0) + F.threshold(x, 0.0, -1.0) + x.clamp(0, 6) + x.clamp(min=0.5)


class IntegerClamp(Net):
    """Lengths are integers: an activation is nothing for them."""

    def forward(self, x: Tensor) -> Any:
        lengths = (x.sum((1, 2, 3)) * 3).long().clamp(min=0)
        return self.last(self.conv(x)).clamp(min=0) * lengths.view(-1, 1, 1, 1)


class Attributes(Net):
    """Functions kept as attributes, in lists and in dicts; what is no submodule has no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = F.relu
        self.partial = functools.partial(F.relu, inplace=False)
        self.several: list[Any] = [F.relu, nn.ReLU(), torch.tanh]
        self.named: dict[str, Any] = {"a": torch.relu, "b": F.gelu}

    def forward(self, x: Tensor) -> Any:
        x = self.activation(self.conv(x))
        x = self.partial(self.last(x))
        for act in self.several:
            x = act(self.last(x))
        return self.named["a"](self.last(x)) + self.activation(self.last(x), inplace=True)


class Tables(Net):
    kind = "relu"
    static = staticmethod(F.relu)

    def forward(self, x: Tensor) -> Any:
        x = RELUS["relu"](self.conv(x))
        x = RELUS[self.kind](self.last(x))
        x = getattr(F, self.kind)(self.last(x))
        x = getattr(torch, "relu")(self.last(x))  # noqa: B009
        x = LAYER(self.last(x)) + nn.ReLU()(self.last(x)) + partial_relu(self.last(x))
        return self.static(self.last(x))


class Values(Net):
    """The function is passed on, and called elsewhere."""

    def forward(self, x: Tensor) -> Any:
        act = F.relu
        x = act(self.conv(x))
        parts = list(map(F.relu, [self.last(x), self.last(-x)]))
        x = apply(torch.relu, self.last(parts[0] + parts[1]))
        return functools.reduce(lambda a, b: F.relu(a - b), [self.last(x), self.last(2 * x)])


def apply(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x)


class Imports(Net):
    def forward(self, x: Tensor) -> Any:
        import torch.nn.functional as G
        from torch.nn.functional import relu as own

        return G.relu(self.last(own(self.conv(x))))


def conv_relu(conv: nn.Module, x: Tensor) -> Any:
    return F.relu(conv(x))


def twice(conv: nn.Module, x: Tensor, *, times: int = 2) -> Any:
    for _ in range(times):
        x = conv_relu(conv, x)
    return x


class Helpers(Net):
    """Functions that are no methods, one calling another."""

    def forward(self, x: Tensor) -> Any:
        x = conv_relu(self.conv, x)
        x = twice(self.last, x, times=3)
        return conv_relu(self.last, x)


class OwnMethods(Net):
    def forward(self, x: Tensor) -> Any:
        x = self._block(self.conv(x))
        return self.__private(self._block(x)) + self.quick(x)

    def _block(self, x: Tensor) -> Any:
        assert isinstance(self, OwnMethods)
        return F.relu(self.last(x))

    def __private(self, x: Tensor) -> Any:
        return torch.relu(x)

    @staticmethod
    def quick(x: Tensor) -> Any:
        return x.relu()


class Base(Net):
    def forward(self, x: Tensor) -> Any:
        return F.relu(self.conv(x))

    def head(self, x: Tensor) -> Any:
        return F.relu(self.last(x))


class Derived(Base):
    def forward(self, x: Tensor) -> Any:
        return self.head(super().forward(x)) + super().head(super().forward(x))

    def head(self, x: Tensor) -> Any:
        return F.relu(super().head(x) - 0.1)


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return inner


class Decorated(Net):
    @logged
    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        return F.relu(self.conv(x))


class Flow(Net):
    """Branches, loops, generators, comprehensions, nested functions, default arguments."""

    def forward(self, x: Tensor, *, deep: bool = True, act: Callable[[Tensor], Tensor] = torch.abs) -> Any:
        x = self.conv(x)
        if deep and x.shape[0] > 1:
            x = F.relu(x)
        else:
            x = F.gelu(x)
        while x.dim() < 4:
            x = x[None]
        for scale in (1.0, 0.5):
            x = F.relu(scale * x - 0.1)

        def inner(y: Tensor) -> Tensor:
            return torch.relu(y) if deep else y

        x = act(inner(x)) + sum(F.relu(part) for part in (x, -x))
        with torch.no_grad():
            y = [F.relu(z) for z in self._parts(x)]
        return y[0] + (x.relu() if (z := F.relu(x)) is not None else z)

    def _parts(self, x: Tensor) -> Iterator[Tensor]:
        yield F.relu(x)
        yield from (F.relu(-x) for _ in range(2))


def outer(scale: float) -> type[Net]:
    """A class whose forward has a closure."""

    class Closed(Net):
        def forward(self, x: Tensor) -> Any:
            return F.relu(self.conv(x)) * scale

    return Closed


class Mixed(Net):
    """Other activations, which stay."""

    def __init__(self) -> None:
        super().__init__()
        self.acts = nn.ModuleList([nn.ReLU(), nn.GELU(), nn.LeakyReLU(0.1)])
        self.by_name = nn.ModuleDict({"a": nn.ReLU(), "b": nn.SiLU()})

    def forward(self, x: Tensor) -> Any:
        x = self.acts[0](self.conv(x))
        for act in self.acts:
            x = act(self.last(x))
        x = self.by_name["a"](x) + self.by_name["b"](x)
        return F.leaky_relu(F.relu(self.last(x)), 0.3) + torch.sigmoid(x)


class Other(nn.Module):
    """A part whose method another module calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def features(self, x: Tensor) -> Any:
        return F.relu(self.conv(x))


class CallsOther(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = Other()

    def forward(self, x: Tensor) -> Any:
        return self.other.features(self.conv(x))


class Flagged(Net):
    """Whether it writes in place is only known when it runs."""

    def forward(self, x: Tensor, inplace: bool = True) -> Any:
        x = self.conv(x)
        y = F.relu(x, inplace) + x
        z = self.last(y)
        return F.relu(z, inplace=not inplace) + z


class Encoder(nn.Module):
    """torch.nn's own layers, whose activation is an attribute, and which have a fused kernel for ReLU."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.project = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Any:
        return self.encoder(self.project(x).flatten(2).transpose(1, 2))


NETWORKS: tuple[type[nn.Module], ...] = (
    Module, InPlaceModule, SharedModule, SharedInSequential, Functionals, InPlaceFunctionals, Methods, Clamps,
    IntegerClamp, Attributes, Tables, Values, Imports, Helpers, OwnMethods, Derived, Decorated, Flow, outer(2.0),
    Mixed, CallsOther, Flagged, Encoder,
)  # fmt: skip


def example() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def make(network: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return network().eval()
