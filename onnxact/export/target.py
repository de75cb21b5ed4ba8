"""FILE_OR_MODULE:CALLABLE -> the torch.nn.Module that the callable returns.

models/resnet.py:resnet18     a file, imported as `python models/resnet.py` would, its folder being on the path
package.nets:build            a module, imported as `python -m package.nets` would
models/resnet.py:ResNet.small an attribute of an attribute; a module that is there already is taken as it is
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from onnxact.errors import ExportError, UsageError
from onnxact.export.failures import at, described, said

_SHOWN = 12


@dataclass(frozen=True)
class Target:
    """What is to be exported, as text: the file or module, and the callable in it."""

    text: str
    place: str
    name: str

    @property
    def is_file(self) -> bool:
        """Whether the place is a file rather than the dotted name of a module."""
        return self.place.endswith(".py") or os.sep in self.place or "/" in self.place

    @property
    def folder(self) -> Path:
        """Where the output stands unless another place is named."""
        return Path(self.place).parent if self.is_file else Path()

    @property
    def stem(self) -> str:
        """The name of the output without its suffix."""
        return self.name.rpartition(".")[2]


def parse(text: str) -> Target:
    """Return the target of a text. Raises UsageError for one that names no callable."""
    place, colon, name = text.rpartition(":")
    if not colon or not place or not all(part.isidentifier() for part in name.split(".")):
        wanted = "write it as FILE_OR_MODULE:CALLABLE, such as models/resnet.py:resnet18"
        if Path(text).is_file() and text.endswith(".py"):
            wanted += f"; {text} has {_listed(_names_in(text))}"
        raise UsageError(f"{text!r} names no callable: {wanted}")
    return Target(text, place, name)


def open_target(target: Target) -> nn.Module:
    """Import and call. What the code prints goes to stderr.

    Raises ExportError: a file that is not there or does not import, a name that is not there, a callable that needs
    arguments, fails, or returns no module.
    """
    with redirect_stdout(sys.stderr):
        found = _attribute(_imported(target), target)
        if isinstance(found, nn.Module):
            return found
        if not callable(found):
            raise ExportError(f"{target.text}: is {described(found)}, neither a module nor callable")
        return _called(found, target)


def _names_in(file: str) -> list[str]:
    with redirect_stdout(sys.stderr):
        return _builders(_imported(Target(file, file, "")))


def _imported(target: Target) -> ModuleType:
    path = Path(target.place)
    if target.is_file and not path.is_file():
        raise ExportError(f"{target.place}: there is no such file")
    try:
        return _from_file(path) if target.is_file else _by_name(target.place)
    except (Exception, SystemExit) as error:
        raise ExportError(f"{target.place}: cannot be imported: {said(error)}{at(error)}") from error


def _from_file(path: Path) -> ModuleType:
    """Import a file under its own name, unless another module bears it already."""
    origin, name = str(path.resolve()), path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == origin:
        return known
    if known is not None or _means_another(name, origin):
        name = f"onnxact_export_{zlib.crc32(origin.encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, origin)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _on_path(path.resolve().parent):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


def _means_another(name: str, origin: str) -> bool:
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    return not name.isidentifier() or (spec is not None and spec.origin != origin)


def _by_name(name: str) -> ModuleType:
    with _on_path(Path.cwd()):
        return importlib.import_module(name)


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))


def _attribute(module: ModuleType, target: Target) -> Any:
    found: Any = module
    for part in target.name.split("."):
        if not hasattr(found, part):
            names = _builders(module) if found is module else [name for name in dir(found) if not name.startswith("_")]
            raise ExportError(f"{target.place}: has no {target.name!r}; it has {_listed(names)}")
        found = getattr(found, part)
    return found


def _called(function: Any, target: Target) -> nn.Module:
    _demand_no_arguments(function, target)
    try:
        with _on_path(target.folder.resolve()):
            found = function()
    except Exception as error:
        raise ExportError(f"{target.text} fails: {said(error)}{at(error)}") from error
    if not isinstance(found, nn.Module):
        raise ExportError(f"{target.text}: returned {described(found)}, not a torch.nn.Module")
    return found


def _demand_no_arguments(function: Any, target: Target) -> None:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise ExportError(
            f"{target.text}: {error}; name a callable that needs no argument, such as a function that calls it"
        ) from error
    except ValueError:  # a builtin without a signature
        return


def _builders(module: ModuleType) -> list[str]:
    """Return what of a module could be meant: functions, classes and modules that it defines itself."""
    found = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (isinstance(value, nn.Module) or _is_its_own(value, module))
    ]
    return sorted(found, key=lambda name: (not inspect.isfunction(vars(module)[name]), name))


def _is_its_own(value: Any, module: ModuleType) -> bool:
    return (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing that could be meant") + more
