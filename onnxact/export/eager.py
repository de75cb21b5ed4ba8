"""A module as PyTorch runs it: (arrays by ONNX input name) -> arrays by ONNX output name."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from onnxact.errors import ExportError
from onnxact.export.example import Example, describe
from onnxact.export.failures import at, described, said
from onnxact.export.quiet import quietly

Array = npt.NDArray[Any]
_HALF = (torch.float16, torch.bfloat16)
_BITS = {torch.bfloat16: (torch.uint16, ml_dtypes.bfloat16)}
"""Types that PyTorch and NumPy do not hand to each other: their bits' type, and the one of ml_dtypes."""


@dataclass(frozen=True)
class Eager:
    """A module in evaluation mode, what it is called with, and what ONNX calls its inputs and outputs.

    is_program: whether it is an ExportedProgram, whose mode was settled when that was exported.
    """

    module: nn.Module
    example: Example
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    is_program: bool = False

    @property
    def device(self) -> torch.device:
        """Where the module's weights are."""
        return device_of(self.module)

    @property
    def dtypes(self) -> frozenset[torch.dtype]:
        """The types of weights and inputs."""
        return frozenset(item.dtype for item in (*self.module.parameters(), *self.example.tensors))

    @property
    def is_half(self) -> bool:
        """Whether the module computes in 16 bits."""
        return not self.dtypes.isdisjoint(_HALF)

    def run(self, feed: Mapping[str, Any], *, plain: bool = False, wide: bool = False) -> dict[str, Array]:
        """Return the outputs on one set of inputs. `plain`: without oneDNN's kernels, PyTorch's own only. `wide`: with
        weights and arithmetic of half precision in float32, and outputs rounded to their own type.

        The arrays of `feed` stay as they are, whatever the module does to its inputs. Raises what the module raises.
        """
        tensors = [to_tensor(feed[name], self.device) for name in self.inputs]
        module = copy.deepcopy(self.module).float() if wide else self.module
        given = [item.float() if wide and item.dtype in _HALF else item for item in tensors]
        with kernels(plain=plain):
            found = tensors_of(call(module, self.example.with_tensors(given)))
        half = next((item.dtype for item in (*self.module.parameters(), *tensors) if item.dtype in _HALF), None)
        if wide and half is not None:
            found = [item.to(half) if item.dtype == torch.float32 else item for item in found]
        return {name: to_array(tensor) for name, tensor in zip(self.outputs, found, strict=True)}


def call(module: nn.Module, example: Example) -> Any:
    """Return what the module returns, without gradients."""
    with quietly(), torch.no_grad():
        return module(*example.args, **example.kwargs)


def demand_values(module: nn.Module) -> None:
    """Raise ExportError where weights are on the meta device, which has their shapes alone."""
    weights = (*module.named_parameters(), *module.named_buffers())
    names = [name for name, value in weights if value.is_meta]
    if names:
        more = f" and {len(names) - 1} more" if names[1:] else ""
        raise ExportError(
            f"{names[0]}{more}: on the meta device, which holds no values; load them with --weights FILE or "
            "module.load_state_dict(state, assign=True), or build the module on the CPU"
        )


def demand_runs(module: nn.Module, example: Example) -> None:
    """Run the module once on its example; raise ExportError, with what it says and where, if it does not run.

    The tensors are copies, so that the example stays what it is.
    """
    device = device_of(module)
    copies = example.with_tensors([tensor.to(device, copy=True) for tensor in example.tensors])
    try:
        found = call(module, copies)
    except Exception as error:
        given = describe(example.tensors, example.names)
        raise ExportError(f"the module does not run in evaluation mode on {given}: {said(error)}{at(error)}") from error
    if not tensors_of(found):
        raise ExportError(f"the module returns no tensor but {described(found)}, so there is nothing to export")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[bool]:
    """Put a module into evaluation mode; each part is as it was afterwards. Yields whether any was in training mode.

    Raises ExportError where a part refuses.
    """
    before = {item: item.training for item in module.modules()}
    try:
        try:
            module.eval()
        except Exception as error:
            raise ExportError(
                f"the module cannot be put into evaluation mode: {said(error)}{at(error)}; a model that is deployed "
                "has to run in it"
            ) from error
        stuck = [name or type(item).__name__ for name, item in module.named_modules() if item.training]
        if stuck:
            raise ExportError(
                f"{', '.join(stuck[:6])}: stays in training mode after eval(), so its evaluation mode cannot be "
                "exported; look at its train() and eval()"
            )
        yield any(before.values())
    finally:
        for item, training in before.items():
            item.training = training


def as_module(program: ExportedProgram) -> nn.Module:
    """Return a program as something that can be called; its checks of shapes are part of it."""
    return program.module()


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's weights are."""
    return next((item.device for item in [*module.parameters(), *module.buffers()]), torch.device("cpu"))


def tensors_of(found: Any) -> list[Tensor]:
    """Return the tensors in what a module returns, in the order of ONNX's outputs."""
    return [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]


def to_tensor(array: Array, device: torch.device) -> Tensor:
    """Return a copy of an array."""
    for kind, (bits, name) in _BITS.items():
        if array.dtype == name:
            return torch.from_numpy(array.view(np.uint16).copy()).view(bits).view(kind).to(device)
    return torch.from_numpy(np.array(array, order="C")).to(device)


def to_array(tensor: Tensor) -> Array:
    """Return a tensor's values."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if plain.dtype in _BITS:
        bits, name = _BITS[plain.dtype]
        return np.asarray(plain.view(bits).numpy().view(name))
    return np.asarray(plain.numpy())


@contextmanager
def kernels(*, plain: bool) -> Iterator[None]:
    """Let PyTorch compute without oneDNN's kernels where `plain`."""
    if not plain:
        yield
        return
    with quietly(), torch.backends.mkldnn.flags(enabled=False):
        yield
