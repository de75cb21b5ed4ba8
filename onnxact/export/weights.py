"""A file of weights -> a module that holds them: .safetensors, or .pt, .pth, .bin and .ckpt without unpickling.

A file from torch.save is read with torch.load(weights_only=True), which knows tensors and plain containers only. What
needs more could run any code while it is read, and is refused.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onnxact.errors import ExportError, MissingPackageError, ModelError
from onnxact.export.failures import said
from onnxact.export.quiet import quietly

_PLACES = ("state_dict", "model_state_dict", "model")
"""Where checkpoints keep the weights beside an optimiser and an epoch."""
_SHOWN = 6
_GLOBAL = re.compile(r"GLOBAL (\S+)")
"""How torch.load names what it refuses (torch/_weights_only_unpickler.py)."""


def load_weights(module: nn.Module, path: Path) -> None:
    """Put the weights of a file into `module`; all keys and shapes have to fit.

    Raises ModelError for a file that cannot be read, ExportError for one that needs unpickling or does not fit.
    """
    state = read_weights(path)
    _demand_fit(module, state, path)
    own = module.state_dict()
    # Where nothing has to be converted, the module takes the file's tensors, and none is held twice.
    alike = all(tensor.dtype == own[name].dtype for name, tensor in state.items())
    module.load_state_dict(state, strict=True, assign=alike)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return name -> tensor, mapped from the file rather than read where its format allows it."""
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file of weights")
    if path.suffix.lower() == ".safetensors":
        return _from_safetensors(path)
    return _state(_from_torch(path), path)


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingPackageError("safetensors", "safetensors", "reading .safetensors") from error
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: is no safetensors file: {said(error)}") from error


def _from_torch(path: Path) -> Any:
    try:
        with quietly():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            raise ExportError(_needs_pickle(path, error)) from error
        raise ModelError(f"{path}: is no file of weights, or is truncated: {said(error)}") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise ModelError(f"{path}: is no file of weights, or is truncated: {said(error)}") from error


def _needs_pickle(path: Path, error: BaseException) -> str:
    return (
        f"{path}: holds {pickled(error)}, which could run any code when it is read; refused. Where it comes from a "
        "place that you trust, load it there and save the weights alone: torch.save(module.state_dict(), 'weights.pt'),"
        " or safetensors.torch.save_file(module.state_dict(), 'weights.safetensors')"
    )


def pickled(error: BaseException) -> str:
    """Return what torch.load(weights_only=True) refused: "a pickled posix.system"."""
    name = _GLOBAL.search(str(error))
    return f"a pickled {name[1].rstrip('.,')}" if name else "a pickled object"


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _state(found: Any, path: Path) -> dict[str, Tensor]:
    if _is_state(found):
        return dict(found)
    inner = next((found[key] for key in _PLACES if isinstance(found, Mapping) and _is_state(found.get(key))), None)
    if inner is not None:
        return dict(inner)
    has = f"a {type(found).__name__}" + (f" with {', '.join(map(str, list(found)[:_SHOWN]))}" if _is_map(found) else "")
    raise ExportError(
        f"{path}: holds no state dict but {has}; save one with torch.save(module.state_dict(), 'weights.pt')"
    )


def _is_map(found: Any) -> bool:
    return isinstance(found, Mapping)


def _is_state(found: Any) -> bool:
    if not isinstance(found, Mapping) or not found:
        return False
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items())


def _demand_fit(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    other = [
        f"{name} {list(state[name].shape)} for {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    parts = [
        f"{what} {_listed(names)}"
        for what, names in (("it lacks", missing), ("the module has no", unknown), ("shapes differ:", other))
        if names
    ]
    if parts:
        hint = _hint(own, state)
        raise ExportError(f"{path}: does not fit the module: {'; '.join(parts)}{hint}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _hint(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return what would make the names fit, where it is a beginning that they all have in common."""
    for name in state:
        for known in own:
            if name.endswith(f".{known}"):
                start = name.removesuffix(known)
                if all(item.removeprefix(start) in own for item in state):
                    return f"; all its names begin with {start!r}, which the module's do not: take it off"
                return ""
    return ""
