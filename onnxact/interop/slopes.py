"""Slopes from a file: .npy (one tensor for every site), .npz or .safetensors (one by node or output name)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

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
        with path.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path}: does not hold plain NumPy arrays ({_first_sentence(error)})") from error
    return _checked(path, arrays)


def _first_sentence(error: Exception) -> str:
    return str(error).partition(". ")[0].rstrip(".")


def _checked(path: Path, arrays: dict[str, Any]) -> dict[str, NDArray[Any]]:
    if not arrays:
        raise ModelError(f"{path}: holds no arrays; expected one for each node, by its name")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ModelError(f"{path}: {name!r} in it is no array")
    return arrays


def _safetensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingPackageError("safetensors", "safetensors", "Reading slopes from a .safetensors file") from error
    try:
        arrays = dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: is not a safetensors file that NumPy can read ({error})") from error
    return _checked(path, arrays)
