"""Swap, decompose and fuse the activations of ONNX models, and give evidence of what stays equal.

result = onnxact.swap_relu(model, alpha=0.2)     path, ModelProto, gs.Graph or onnx_ir.Model in; the same kind out
result = onnxact.decompose(model, form="mul-max")
result = onnxact.fuse(model)
verdict = onnxact.check(before, after)
exported = onnxact.export(module, example_inputs, "net.onnx")
proof = onnxact.prove("leaky_relu", "mul-max", parameters={"alpha": 0.2})
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from onnxact.version import __version__

if TYPE_CHECKING:
    from onnxact.api import assert_equivalent, check, decompose, fuse, inspect, swap, swap_relu
    from onnxact.check import NotEquivalent, Verdict
    from onnxact.check.prove import Proof, ProofInterrupted, prove
    from onnxact.errors import (
        ExportError,
        FileConflictError,
        MissingPackageError,
        ModelError,
        OnnxactError,
        ProviderError,
        UsageError,
    )
    from onnxact.exporting import Exported, export
    from onnxact.results import Inspection, Result

_WHERE = {
    "onnxact.api": ("assert_equivalent", "check", "decompose", "fuse", "inspect", "swap", "swap_relu"),
    "onnxact.check": ("NotEquivalent", "Verdict"),
    "onnxact.check.prove": ("Proof", "ProofInterrupted", "prove"),
    "onnxact.errors": (
        "ExportError", "FileConflictError", "MissingPackageError", "ModelError", "OnnxactError",
        "ProviderError", "UsageError",
    ),
    "onnxact.exporting": ("Exported", "export"),
    "onnxact.results": ("Inspection", "Result"),
}  # fmt: skip

__all__ = [
    "ExportError",
    "Exported",
    "FileConflictError",
    "Inspection",
    "MissingPackageError",
    "ModelError",
    "NotEquivalent",
    "OnnxactError",
    "Proof",
    "ProofInterrupted",
    "ProviderError",
    "Result",
    "UsageError",
    "Verdict",
    "__version__",
    "assert_equivalent",
    "check",
    "decompose",
    "export",
    "fuse",
    "inspect",
    "prove",
    "swap",
    "swap_relu",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import onnxact` alone loads no onnx."""
    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    if name == "torch":
        return importlib.import_module("onnxact.torch")
    raise AttributeError(f"module 'onnxact' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Verb(ModuleType):
    """A subpackage with the name of a function, such as onnxact.check, which can be called like that function."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function of that name."""
        return __getattr__(self.__name__.rpartition(".")[2])(*arguments, **options)


class _Package(ModuleType):
    """This module. Python binds a subpackage to its name here once it is imported, in place of the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and type(value) is ModuleType:
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
