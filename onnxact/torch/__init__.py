"""Swap activations in PyTorch modules, and show that it is the same as swapping them in the exported ONNX model.

result = onnxact.torch.swap(module, "relu", "leaky_relu", alpha=0.2)
result.module, result.sites, result.skipped
onnxact.torch.check_square(module, inputs, "relu", "leaky_relu", alpha=0.2).raise_unless_equivalent()
onnxact.torch.gradients("leaky_relu", {"alpha": 0.2})

Importing this package imports PyTorch; `import onnxact` does not. A swapped module that is unpickled needs no more of
onnxact than what its classes are made with.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onnxact.errors import MissingPackageError

try:
    import torch as _torch  # noqa: F401 - the modules of this package need it
except ImportError as error:
    raise MissingPackageError("torch", "torch", "onnxact.torch") from error

if TYPE_CHECKING:
    from onnxact.torch.derivatives import Gradient, gradients
    from onnxact.torch.report import Computed, Site, Skip, Swap
    from onnxact.torch.square import Square, check_square
    from onnxact.torch.swapping import swap

_WHERE = {
    "onnxact.torch.derivatives": ("Gradient", "gradients"),
    "onnxact.torch.report": ("Computed", "Site", "Skip", "Swap"),
    "onnxact.torch.square": ("Square", "check_square"),
    "onnxact.torch.swapping": ("swap",),
}

__all__ = ["Computed", "Gradient", "Site", "Skip", "Square", "Swap", "check_square", "gradients", "swap"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'onnxact.torch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
