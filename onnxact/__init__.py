"""Swap, decompose and fuse the activations of ONNX models, and give evidence of what stays equal.

result = onnxact.swap_relu(model, alpha=0.2)     path, ModelProto, gs.Graph or onnx_ir.Model in; the same kind out
result = onnxact.decompose(model, form="mul-max")
result = onnxact.fuse(model)
verdict = onnxact.check(before, after)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onnxact.version import __version__

if TYPE_CHECKING:
    from onnxact.api import Inspection, Result, assert_equivalent, check, decompose, fuse, inspect, swap, swap_relu
    from onnxact.check import NotEquivalent, Verdict
    from onnxact.errors import (
        ExportError,
        FileConflictError,
        MissingPackageError,
        ModelError,
        NoFormError,
        OnnxactError,
        ProviderError,
        UsageError,
    )

_WHERE = {
    "onnxact.api": (
        "Inspection", "Result", "assert_equivalent", "check", "decompose", "fuse", "inspect", "swap", "swap_relu",
    ),
    "onnxact.check": ("NotEquivalent", "Verdict"),
    "onnxact.errors": (
        "ExportError", "FileConflictError", "MissingPackageError", "ModelError", "NoFormError", "OnnxactError",
        "ProviderError", "UsageError",
    ),
}  # fmt: skip

__all__ = [
    "ExportError",
    "FileConflictError",
    "Inspection",
    "MissingPackageError",
    "ModelError",
    "NoFormError",
    "NotEquivalent",
    "OnnxactError",
    "ProviderError",
    "Result",
    "UsageError",
    "Verdict",
    "__version__",
    "assert_equivalent",
    "check",
    "decompose",
    "fuse",
    "inspect",
    "swap",
    "swap_relu",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import onnxact` alone loads no onnx."""
    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'onnxact' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
