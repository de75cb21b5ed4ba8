"""(expression or module, what enters it) -> how many channels the result has, where the code alone tells.

    self.bn1(self.conv1(x))   ->   64, because conv1 has 64 output channels
    nn.Flatten(), nn.Linear(512, 32)   ->   32

Channels lie on axis 1, as torch.nn.PReLU has them. A Linear's features do so only where its input is a matrix.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from onnxact.torch.functionals import find_functional, meaning_of_module


class Width(NamedTuple):
    """The number of channels, None where it is not known; whether the tensor is known to be a matrix."""

    channels: int | None = None
    matrix: bool = False


NOTHING = Width()
_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
_PASSING = (
    nn.Identity, nn.modules.dropout._DropoutNd, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd, nn.Upsample,
    nn.modules.padding._ConstantPadNd, nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd,
)  # fmt: skip
_PASSING_FUNCTIONS = ("dropout", "max_pool", "avg_pool", "interpolate", "pad", "batch_norm", "instance_norm")


def after_module(module: Any, width: Width) -> Width:
    """Return the width behind a module that is entered with `width`."""
    if isinstance(module, _CONVOLUTIONS):
        return Width(module.out_channels)
    if isinstance(module, _NORMS):
        return Width(getattr(module, "num_features", getattr(module, "num_channels", None)))
    if isinstance(module, nn.Linear):
        return Width(module.out_features, True) if width.matrix else NOTHING
    if isinstance(module, nn.Flatten):
        return Width(None, (module.start_dim, module.end_dim) == (1, -1))
    if is_sequential(module):
        for inner in module:
            width = after_module(inner, width)
        return width
    passes = isinstance(module, _PASSING) or (isinstance(module, nn.Module) and meaning_of_module(module) is not None)
    return width if passes else NOTHING


def is_sequential(module: Any) -> bool:
    """Tell whether a module calls its submodules one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


class Widths:
    """The widths of the variables of one function, while its statements are gone through in order."""

    def __init__(self, resolve: Callable[[ast.expr], Any], known: Mapping[str, Width] | None = None) -> None:
        self.resolve = resolve
        self.known = dict(known or {})

    def of(self, node: ast.expr) -> Width:
        """Return the width of an expression."""
        match node:
            case ast.Name():
                return self.known.get(node.id, NOTHING)
            case ast.NamedExpr():
                return self.of(node.value)
            case ast.BinOp():
                return _broadcast(self.of(node.left), self.of(node.right))
            case ast.IfExp():
                return _either(self.of(node.body), self.of(node.orelse))
            case ast.Call():
                return self._call(node)
        return NOTHING

    def assign(self, target: ast.expr, width: Width) -> None:
        """Note what a variable holds now."""
        if isinstance(target, ast.Name):
            self.known[target.id] = width

    def forget(self, names: frozenset[str]) -> None:
        """Forget variables that a loop or branch may have changed."""
        self.known = {name: width for name, width in self.known.items() if name not in names}

    def agree(self, other: Mapping[str, Width]) -> None:
        """Keep what is the same here and at the end of another branch."""
        self.known = {name: _either(width, other.get(name, NOTHING)) for name, width in self.known.items()}

    def _call(self, node: ast.Call) -> Width:
        function = self.resolve(node.func)
        inside = self.of(node.args[0]) if node.args else NOTHING
        if isinstance(function, nn.Module):
            return after_module(function, inside)
        if function is torch.cat:
            return self._concatenated(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("flatten", "view", "reshape"):
            return Width(None, _is_matrix(node.func.attr, node))
        name = getattr(function, "__name__", "")
        passes = find_functional(function) is not None or any(part in name for part in _PASSING_FUNCTIONS)
        return inside if passes else NOTHING

    def _concatenated(self, node: ast.Call) -> Width:
        axis = next((k.value for k in node.keywords if k.arg in ("dim", "axis")), [*node.args, None, None][1])
        parts = node.args[0].elts if node.args and isinstance(node.args[0], (ast.List, ast.Tuple)) else []
        channels = [self.of(part).channels for part in parts]
        known = [number for number in channels if number is not None]
        on_channels = isinstance(axis, ast.Constant) and axis.value == 1
        return Width(sum(known)) if on_channels and known and len(known) == len(channels) else NOTHING


def _is_matrix(name: str, node: ast.Call) -> bool:
    """Tell whether a call makes a matrix: torch.flatten(x, 1), x.flatten(1), x.view(len(x), -1)."""
    if name != "flatten":
        return len(node.args) == 2 and not any(isinstance(a, ast.Starred) for a in node.args)
    numbers = [a.value for a in node.args if isinstance(a, ast.Constant)]
    named = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
    return [*numbers, named.get("start_dim")][0] == 1 and named.get("end_dim", -1) == -1 and len(numbers) < 2


def _broadcast(left: Width, right: Width) -> Width:
    if left.channels is not None and right.channels is not None and left.channels != right.channels:
        return Width(max(left.channels, right.channels)) if 1 in (left.channels, right.channels) else NOTHING
    one = left if left.channels is not None else right
    return one if one.channels != 1 else NOTHING


def _either(left: Width, right: Width) -> Width:
    return left if left == right else NOTHING
