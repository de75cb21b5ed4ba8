"""What a swap has to compute, found without it: every ReLU that runs is replaced while it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_CLAMPS = ("clamp", "clip", "clamp_min")


class LeakyInstead(TorchFunctionMode):
    """Computes LeakyReLU by its definition where the code asks for ReLU of floating-point numbers."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        x: Any = args[0] if args else named.get("input")
        if not (name in ("relu", "relu_") or (name in _CLAMPS and _is_relu(x, args[1:], named))):
            return func(*args, **named)
        self.calls += 1
        y = torch.where(x < 0, x * self.slope, x)
        in_place = name.endswith("_") or named.get("inplace") or (name == "relu" and len(args) > 1 and args[1])
        return x.copy_(y) if in_place else y


def _is_relu(x: Any, positional: Any, named: dict[str, Any]) -> bool:
    low, high = [*positional, None, None][:2]
    bounds = named.get("min", low), named.get("max", high)
    return isinstance(x, Tensor) and x.is_floating_point() and bounds == (0, None)


def with_leaky_relu(module: nn.Module, slope: float, *inputs: Tensor) -> tuple[Tensor, int]:
    """Return the output of a module with LeakyReLU, and how many ReLUs ran. Fused kernels are off."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    mode = LeakyInstead(slope)
    try:
        with mode:
            return module(*inputs), mode.calls
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
