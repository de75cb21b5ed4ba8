"""Slopes from a file: .npy (one tensor for every site), .npz or .safetensors (one by node or output name)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxact.errors import MissingPackageError, ModelError, UsageError


def load_slopes(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Return one array, or arrays by name. Pickled content is refused.

    Raises UsageError for another suffix, ModelError for a file that is missing or is not what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".safetensors"):
        raise UsageError(f"{path}: slopes come as .npy, .npz or .safetensors, not {suffix or 'a file without suffix'}")
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file of slopes")
    return _safetensors(path) if suffix == ".safetensors" else _numpy(path)


def _numpy(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    try:
        content = np.load(path, allow_pickle=False)
        return content if isinstance(content, np.ndarray) else {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError) as error:
        raise ModelError(f"{path}: is not a file of NumPy arrays ({error})") from error


def _safetensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingPackageError("safetensors", "safetensors", "Reading slopes from a .safetensors file") from error
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: is not a safetensors file ({error})") from error
