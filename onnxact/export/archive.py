"""net.pt2, as torch.export.save writes it -> the ExportedProgram, without unpickling anything.

torch.export.load falls back to the full unpickler, and runs compiled libraries that an archive holds. So what is in it
is looked at first: tensors have to be stored raw, or in a form that torch.load(weights_only=True) takes.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import torch
from torch import fx
from torch.export import ExportedProgram

from onnxact.errors import ExportError, ModelError
from onnxact.export.failures import said
from onnxact.export.quiet import quietly
from onnxact.export.weights import pickled

_ENVIRONMENT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""Makes every torch.load of the process one with weights_only=True (torch/serialization.py)."""
_OBJECTS = ("custom_obj_", "opaque_obj_")
"""How names of pickled objects begin in an archive (torch/csrc/export/pt2_archive_constants.h)."""
_TRAINING = ("train", "training", "use_input_stats")
"""What operators call the argument that is true in training (torch/_C, aten's native_functions.yaml)."""
_WAY_OUT = "export the module itself instead, or save its program again with plain tensors as constants"


def as_exported(program: ExportedProgram) -> str:
    """Return in which mode a program computes: the one in which its module was exported, which it cannot leave."""
    names = ", ".join(dict.fromkeys(_trained(program)))
    if not names:
        return "as the program was exported"
    return f"as the program was exported, in training mode ({names}); export it after module.eval() for evaluation mode"


def _trained(program: ExportedProgram) -> Iterator[str]:
    """Yield the operators whose argument says that they compute as in training."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            schema = getattr(node.target, "_schema", None)
            names = [argument.name for argument in schema.arguments] if schema is not None else []
            given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
            if any(given.get(name) is True for name in _TRAINING):
                yield str(node.target).removesuffix(".default")


def load_program(path: Path) -> ExportedProgram:
    """Return the program of a .pt2 file. Raises ModelError for another file, ExportError for what needs unpickling."""
    _demand_plain(path)
    try:
        with quietly(), _only_weights():
            return torch.export.load(path)
    except Exception as error:
        raise ModelError(
            f"{path}: cannot be read as an exported program: {said(error)}; is it truncated, or from another PyTorch?"
        ) from error


def _demand_plain(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            _demand_plain_members(archive, path)
    except (zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: is no .pt2 archive as torch.export.save writes it: {said(error)}") from error


def _demand_plain_members(archive: zipfile.ZipFile, path: Path) -> None:
    for name in archive.namelist():
        member = PurePosixPath(name)
        if "aotinductor" in member.parts:
            raise ExportError(f"{path}: holds compiled code ({name}), which loading would run; refused: {_WAY_OUT}")
        if member.name.startswith(_OBJECTS):
            raise ExportError(f"{path}: holds a pickled object ({name}); refused: {_WAY_OUT}")
        if member.suffix == ".pt":
            _demand_loadable(archive.read(name), name, path)
        elif member.name.endswith("_config.json"):
            _demand_raw(archive.read(name), name, path)


def _demand_loadable(content: bytes, name: str, path: Path) -> None:
    try:
        if content:
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ExportError(f"{path}: {name} holds {pickled(error)}; refused: {_WAY_OUT}") from error


def _demand_raw(content: bytes, name: str, path: Path) -> None:
    entries = json.loads(content).get("config", {})
    pickled = [key for key, entry in entries.items() if isinstance(entry, dict) and entry.get("use_pickle")]
    if pickled:
        raise ExportError(f"{path}: {name} keeps {', '.join(pickled[:6])} pickled; refused: {_WAY_OUT}")


@contextmanager
def _only_weights() -> Iterator[None]:
    before = os.environ.get(_ENVIRONMENT)
    os.environ[_ENVIRONMENT] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ENVIRONMENT]
        else:
            os.environ[_ENVIRONMENT] = before
