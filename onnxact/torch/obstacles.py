"""(module, activation) -> why the activation cannot be swapped in it, or "".

What compiled code, fused kernels, quantised and parametrised modules compute is not in the Python that they run.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.errors import UsageError
from onnxact.torch.functionals import meaning_of_module, names_of
from onnxact.torch.reach import mentions

_FUSED = re.compile(r"torch\.(ao\.)?nn\.(quantized|intrinsic|qat|quantizable)\b")
_WRAPPERS = ("DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule")


def closed(module: nn.Module, source: str) -> str | None:
    """Return why nothing inside a module can be swapped, "" if there is nothing of the activation; None if it can."""
    if isinstance(module, torch.jit.ScriptModule):
        scripted = "it is compiled by TorchScript, which runs a copy of the code; swap first, then compile"
        return scripted if _in_graph(module, source) else ""
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        inside = getattr(module, "nonlinearity", None) or "sigmoid tanh"
        return f"{type(module).__name__} computes it inside one kernel" if source in inside.split() else ""
    kind = type(module)
    if _FUSED.match(kind.__module__):
        names = {base.__name__ for base in kind.__mro__}
        has = ACTIVATIONS[source].torch in names or (source == "relu" and "ReLU" in kind.__name__)
        return "it is fused or quantised; swap first, then fuse and quantise" if has else ""
    return None


def unfit(module: nn.Module) -> str:
    """Return why an activation cannot be replaced although what it computes is known."""
    if reason := parametrised(module):
        return reason
    if "forward" in vars(module):
        return "its forward was replaced on this one object"
    own = {"weight"} if isinstance(module, nn.PReLU) else set()
    others = [*module._parameters.keys() - own, *module._buffers, *module._modules]
    return f"it has something of its own: {', '.join(sorted(others))}" if others else ""


def parametrised(module: nn.Module) -> str:
    """Return why neither a parametrised module nor its code can be replaced, "" for one that is not."""
    there = parametrize.is_parametrized(module)
    return "it is parametrised: remove the parametrisation, swap, and register it again" if there else ""


def altered(module: nn.Module, source: str) -> str:
    """Return why a module of the activation's class in torch.nn is not taken for the activation; "" for another class.

    An RReLU is a LeakyReLU outside training only, a Threshold an activation where it puts 0.
    """
    if meaning_of_module(module) is not None:
        return ""
    if isinstance(module, nn.RReLU) and source == "leaky_relu" and module.training:
        return "it draws its slopes at random while training; after eval() it is a LeakyReLU with their mean"
    if isinstance(module, nn.Threshold) and source == "thresholded_relu":
        return f"it puts {module.value:g} where an input is too small; thresholded-relu puts 0"
    base: type[nn.Module] = getattr(nn, ACTIVATIONS[source].torch)
    return f"{type(module).__name__} has a forward of its own" if isinstance(module, base) else ""


def hidden_in(value: Any, source: str) -> str:
    """Return why an activation inside compiled code, or a gradient written by hand, cannot be swapped; "" for none."""
    if isinstance(value, torch.jit.ScriptFunction):
        return "it is compiled by TorchScript; swap first, then compile" if _in_graph(value, source) else ""
    forward = getattr(value, "forward", None)
    has = forward is not None and hasattr(forward, "__code__") and mentions(forward, names_of(source))
    return "it is inside a torch.autograd.Function, whose gradient is written by hand" if has else ""


def _in_graph(compiled: Any, source: str) -> bool:
    try:
        graph = str(compiled.inlined_graph)
    except (AttributeError, RuntimeError):  # there is no forward
        return False
    return any(f"aten::{name}(" in graph for name in names_of(source))


def refuse_wrappers(root: nn.Module, learns: bool) -> None:
    """Raise a UsageError for a module whose parameters are registered for distributed training already."""
    for path, module in root.named_modules():
        wrapper = next((base.__name__ for base in type(module).__mro__ if base.__name__ in _WRAPPERS), None)
        if learns and wrapper:
            raise UsageError(
                f"{path or 'the module'} is {wrapper}, which has registered its parameters; swap the module inside it "
                "first, then wrap it"
            )
