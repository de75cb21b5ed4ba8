"""(module, example) -> onnx_ir.Model, by torch.onnx.export(dynamo=True).

Modules with torch.cond, scan or while_loop are captured strictly: only so does torch.export know which module an
activation inside a branch or a loop belongs to. All others are captured by torch.onnx.export itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx.experimental import _config

from onnxact.errors import ExportError, UsageError
from onnxact.export.dynamic import fixed_by_another
from onnxact.export.example import Example
from onnxact.export.failures import at, own_error, root_of, said
from onnxact.export.mending import translations
from onnxact.export.naming import name_nodes
from onnxact.export.opsets import out_of_reach
from onnxact.export.quiet import quietly
from onnxact.model.schema import LATEST_OPSET

FIRST_OPSET = 7
"""Below, binary ops do not broadcast as PyTorch's do."""
_CONTROL_FLOW = {"cond", "scan", "while_loop", "associative_scan", "map"}


@dataclass(frozen=True)
class Translation:
    """What PyTorch's exporter made: an onnx_ir.Model, and the program after its decompositions."""

    model: Any
    program: ExportedProgram

    @property
    def opset(self) -> int:
        """The version of ONNX's own ops."""
        return int(self.model.opset_imports[""])


def demand_opset(opset: int | None) -> None:
    """Raise UsageError for a version of ONNX that is none."""
    if opset is not None and not FIRST_OPSET <= opset <= LATEST_OPSET:
        raise UsageError(f"--opset {opset}: expected {FIRST_OPSET} to {LATEST_OPSET}, which is the installed onnx's")


def translate(module: nn.Module | ExportedProgram, example: Example | None, *, opset: int | None) -> Translation:
    """Return the module in ONNX, each node named after its module. `example` is needed unless it is a program.

    Raises ExportError where PyTorch cannot export the module, with what it says and where.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError("a scripted module cannot be exported; export the module that it was made from")
    try:
        with quietly():
            program = _exported(module, example, opset)
    except Exception as error:
        raise _failure(error, example) from error
    found = Translation(program.model, program.exported_program)
    if opset is not None and found.opset != opset:
        raise ExportError(out_of_reach(found.model, found.opset, opset))
    name_nodes(found.model)
    return found


def _exported(module: nn.Module | ExportedProgram, example: Example | None, opset: int | None) -> Any:
    options: dict[str, Any] = {
        "dynamo": True,
        "opset_version": opset,
        "verbose": False,
        "custom_translation_table": translations(),
    }
    if isinstance(module, ExportedProgram) or example is None:
        return torch.onnx.export(module, **options)
    options["dynamic_shapes"] = example.dynamic_shapes
    captured = _captured(module, example) if _has_control_flow(module) else None
    if captured is not None:
        return torch.onnx.export(captured, **options)
    return torch.onnx.export(module, _positional(example), kwargs=dict(example.kwargs), **options)


def _positional(example: Example) -> tuple[Any, ...]:
    """Return args as torch.onnx.export has them: a dict at their end would be taken for kwargs, so another follows."""
    is_last = bool(example.args) and isinstance(example.args[-1], dict)
    return (*example.args, {}) if is_last and not example.kwargs else example.args


def _captured(module: nn.Module, example: Example) -> ExportedProgram | None:
    """Return the program of a strict torch.export, None where that does not take the module."""
    shapes = _as_dims(example.dynamic_shapes)
    try:
        with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            return torch.export.export(module, example.args, dict(example.kwargs), dynamic_shapes=shapes, strict=True)
    except Exception:  # noqa: BLE001 - torch.onnx.export tries the other way, and says what is wrong
        return None


def _as_dims(shapes: Any) -> Any:
    """Return dynamic_shapes with torch.export's mark in place of names, which it does not take."""
    if isinstance(shapes, str):
        return torch.export.Dim.DYNAMIC
    if isinstance(shapes, dict):
        return {key: _as_dims(value) for key, value in shapes.items()}
    return type(shapes)(_as_dims(item) for item in shapes) if isinstance(shapes, (tuple, list)) else shapes


def _has_control_flow(module: nn.Module) -> bool:
    """Tell whether a method of a class in the module names one of torch's control flow operators."""
    classes = {type(item) for item in module.modules()}
    return any(not _CONTROL_FLOW.isdisjoint(_names(code)) for cls in classes for code in _codes(cls))


def _codes(cls: type) -> Iterator[CodeType]:
    if cls.__module__.startswith("torch."):
        return
    for base in cls.__mro__:
        if base not in (object, nn.Module) and not base.__module__.startswith("torch."):
            for value in vars(base).values():
                function = inspect.unwrap(value) if callable(value) else None
                if inspect.isfunction(function):
                    yield function.__code__


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _failure(error: Exception, example: Example | None) -> Exception:
    """Return what to raise for an exception of the exporter: one of ours in its chain, else an ExportError."""
    own = own_error(error)
    root = root_of(error)
    if own is not None:
        return own
    name = type(root).__name__
    if name == "DispatchError":
        return ExportError(f"PyTorch's exporter has no ONNX for an operator of the module: {said(root)}{at(error)}")
    hint = ""
    if "DataDependent" in name or "data-dependent" in str(root):
        hint = "; control flow that depends on data has to be written with torch.cond"
    elif "dim hint" in str(root) or "Constraints violated" in str(root):
        hint = (
            f"; {fixed_by_another(str(root), example) or 'the module takes one size there: leave that --dynamic out'}"
        )
    return ExportError(f"PyTorch cannot export the module: {said(root)}{at(root)}{hint}")
