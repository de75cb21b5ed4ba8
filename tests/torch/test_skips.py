"""What a swap cannot reach is left as it is, and listed with a reason that says what to do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.nn import intrinsic
from torch.nn import functional
from torch.nn.utils import parametrize

from onnxact.torch import Skip, swap
from tests.torch.networks import Net, example, make


@contextmanager
def torchscript() -> Iterator[None]:
    """TorchScript warns that its time is over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


with torchscript():

    @torch.jit.script
    def scripted(x: Tensor) -> Tensor:
        return torch.relu(x)


class ByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Calls(Net):
    """Each line has one call that cannot be swapped, and says why."""

    def forward(self, x: Tensor) -> Any:
        y = self.last(self.conv(x))
        torch.clamp(y, min=0, out=torch.empty_like(y))  # it writes into out=
        y = scripted(y)  # it is compiled by TorchScript; swap first, then compile
        y = ByHand.apply(y)  # type: ignore[no-untyped-call]  # it is inside a torch.autograd.Function, whose gradient is written by hand
        y = y.clamp(min=float(y.min()))  # its bounds are only known when it runs
        y = functional.relu(*(y,))  # its arguments are not written out
        return sum(self.several(y))

    def several(self, x: Tensor) -> Any:
        def inner(self: int) -> Any:
            return functional.relu(x + self)  # it stands in a function that has a variable self of its own

        yield inner(1)
        yield Object(x).relu(x, 1)  # only a run tells what Object(x).relu is

    def unused(self, x: Tensor) -> Any:
        return functional.relu(x)  # forward does not call unused


class Object:
    def __init__(self, x: Tensor) -> None:
        self.x = x

    def relu(self, x: Tensor, scale: float) -> Tensor:
        return scale * torch.relu(x)


def test_calls_that_cannot_be_swapped() -> None:
    result = swap(make(Calls), "relu", "leaky_relu")
    assert not result.sites
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        lines = file.read().splitlines()
    for skip in result.skipped:
        assert skip.file == __file__ and lines[skip.line - 1].endswith(f"# {skip.reason}"), skip
    assert len(result.skipped) == 8
    with torch.no_grad():
        assert make(Calls)(example()).isfinite().all()


def test_a_run_shows_what_the_code_does_not() -> None:
    result = swap(make(Calls), "relu", "leaky_relu", inputs=example())
    seen = [skip for skip in result.skipped if "it was called in a run" in skip.reason]
    assert [(skip.written, skip.function.rpartition(".")[2]) for skip in seen] == [
        ("clamp", "forward"),
        ("relu", "relu"),
    ]
    assert seen[1].file == __file__


class MyReLU(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


class Renamed(nn.ReLU):
    pass


class Weighted(nn.ReLU):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def replaced() -> nn.Module:
    module = nn.ReLU()
    module.forward = lambda input: input  # type: ignore[method-assign]
    return module


def parametrised() -> nn.Module:
    module = nn.PReLU()
    parametrize.register_parametrization(module, "weight", nn.Softplus())
    return module


def fused() -> Any:
    conv_relu: Any = intrinsic.ConvReLU2d
    return conv_relu(nn.Conv2d(3, 4, 1), nn.ReLU())


def scripted_module() -> Any:
    with torchscript():
        return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))


CASES = {
    "a forward of its own": (MyReLU, "relu", "MyReLU adds to torch.nn.ReLU"),
    "a replaced forward": (replaced, "relu", "its forward was replaced on this one object"),
    "parameters of its own": (Weighted, "relu", "it has something of its own: scale"),
    "a parametrisation": (parametrised, "prelu", "it is parametrised: remove the parametrisation"),
    "TorchScript": (
        scripted_module,
        "relu",
        "it is compiled by TorchScript, which runs a copy of the code",
    ),
    "one kernel": (lambda: nn.LSTM(3, 4), "tanh", "LSTM computes it inside one kernel"),
    "one kernel, ReLU": (lambda: nn.RNN(3, 4, nonlinearity="relu"), "relu", "RNN computes it inside one kernel"),
    "fused": (fused, "relu", "it is fused or quantised"),
    "random slopes": (nn.RReLU, "leaky_relu", "it draws its slopes at random while training"),
    "another number": (lambda: nn.Threshold(0.0, 2.0), "thresholded_relu", "it puts 2 where an input is too small"),
}


@pytest.mark.parametrize(("build", "source", "reason"), CASES.values(), ids=CASES)
def test_modules_that_cannot_be_swapped(build: Any, source: str, reason: str) -> None:
    module = nn.Sequential(build())
    before = repr(module)
    result = swap(module, source, "gelu")
    (skip,) = result.skipped
    assert not result.sites and repr(result.module) == before
    assert skip.reason.startswith(reason) and skip.path.startswith("0")
    assert skip.reason in result.summary()


@pytest.mark.parametrize("source", ["relu", "sigmoid"])
def test_kernels_without_the_activation_are_not_listed(source: str) -> None:
    assert swap(nn.Sequential(nn.LSTM(3, 4), nn.RNN(3, 4)), source, "gelu").skipped == () or source == "sigmoid"


def test_a_class_that_only_adds_a_name_is_swapped() -> None:
    assert len(swap(nn.Sequential(Renamed()), "relu", "gelu").sites) == 1


def test_rrelu_is_leaky_relu_outside_training() -> None:
    (site,) = swap(nn.Sequential(nn.RReLU(0.1, 0.3).eval()), "leaky_relu", "relu").sites
    assert site.before.params == {"alpha": pytest.approx(0.2)}


def test_code_without_source_is_listed() -> None:
    names: dict[str, Any] = {}
    code = "class Made(base):\n    def forward(self, x): return F.relu(self.conv(x))"
    exec(code, {"base": Net, "F": functional, "__name__": "nowhere"}, names)
    result = swap(make(names["Made"]), "relu", "leaky_relu", inputs=example())
    assert not result.sites
    assert result.skipped[0].reason == "its source, <string>, cannot be read"
    assert result.skipped[1].reason == "it was called in a run, where the code did not show it"


def hidden(function: Any) -> Any:
    def inner(*arguments: Any) -> Any:
        return inner.__wrapped__(*arguments)  # type: ignore[attr-defined]

    inner.__wrapped__ = function  # type: ignore[attr-defined]
    return inner


class Hidden(Net):
    @hidden
    def forward(self, x: Tensor) -> Any:
        return functional.relu(self.conv(x))


def test_a_decorator_that_hides_what_it_wraps_is_listed() -> None:
    (skip,) = swap(make(Hidden), "relu", "leaky_relu").skipped
    assert skip.reason == "a decorator around it does not show what it wraps"


class Reassigned(Net):
    def forward(self, x: Tensor) -> Any:
        self = super().train()  # noqa: PLW0642
        return functional.relu(self.conv(x))


def test_a_method_that_assigns_to_self_is_listed() -> None:
    (skip,) = swap(make(Reassigned), "relu", "leaky_relu").skipped
    assert skip.reason == "its first parameter is assigned to"


class Parametrised(Net):
    def forward(self, x: Tensor) -> Any:
        return functional.relu(self.conv(x) * self.scale)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        parametrize.register_parametrization(self, "scale", nn.Softplus())


def test_the_code_of_a_parametrised_module_is_listed() -> None:
    (skip,) = swap(make(Parametrised), "relu", "leaky_relu").skipped
    assert skip.reason == "it is parametrised: remove the parametrisation, swap, and register it again"


class Registered(Net):
    def __init_subclass__(cls, *, name: str, **options: Any) -> None:
        super().__init_subclass__(**options)


class Wanting(Registered, name="wanting"):
    def forward(self, x: Tensor) -> Any:
        return functional.relu(self.conv(x))


def test_a_class_that_nothing_can_be_derived_from_is_listed() -> None:
    result = swap(make(Wanting), "relu", "leaky_relu")
    (skip,) = result.skipped
    assert not result.sites and type(result.module) is Wanting
    assert skip.reason.startswith("no class can be derived from Wanting: ")


def recursive(x: Tensor, depth: int) -> Any:
    return functional.relu(x) if depth == 0 else recursive(functional.relu(x), depth - 1)


class Recursive(Net):
    def forward(self, x: Tensor) -> Any:
        return recursive(self.conv(x), 2)


def test_a_function_that_calls_itself_is_listed() -> None:
    result = swap(make(Recursive), "relu", "leaky_relu")
    assert [skip.reason for skip in result.skipped] == ["recursive calls it again from inside it"]
    assert isinstance(result.skipped[0], Skip) and result.skipped[0].function == "recursive"
