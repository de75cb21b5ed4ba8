"""--backend NAME -> its Backend, or what is known and installed: one row a runtime.

A name with a path separator is a program of the caller's own (see program).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module, metadata

from onnxact.check.runners.backend import Backend, Load, said
from onnxact.check.runners.program import program
from onnxact.errors import MissingPackageError, ProviderError, UsageError

ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Row:
    """A runtime: the module here that loads a model with it, and the package that has to be there, by its extra."""

    module: str
    package: str
    extra: str

    @property
    def version(self) -> str | None:
        """The version of the package, None where it is not installed."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None


BACKENDS: Mapping[str, Row] = {
    "onnx-reference": Row("reference", "onnx", ""),
    "tract": Row("tract", "tract", "tract"),
    "opencv": Row("opencv", "opencv-python-headless", "opencv"),
    "openvino": Row("openvino", "openvino", "openvino"),
    "onnx2torch": Row("onnx2torch", "onnx2torch", "onnx2torch"),
    "jaxonnxruntime": Row("jaxonnxruntime", "jaxonnxruntime", "jaxonnxruntime"),
    "wonnx": Row("wonnx", "wonnx", "wonnx"),
}
"""By the names that a caller uses; beside them ONNX Runtime itself, which is no backend but the default."""


def find_backend(name: str) -> Backend:
    """The backend of this name, or the program at this path.

    Raises UsageError for an unknown name, MissingPackageError where the package is not installed, ProviderError where
    the runtime or the program does not start.
    """
    if os.sep in name:
        return program(name)
    wanted = name.strip().lower().replace("_", "-")
    if wanted not in BACKENDS:
        raise UsageError(_unknown(name, wanted))
    row = BACKENDS[wanted]
    version = row.version
    if version is None:
        raise MissingPackageError(row.package, row.extra, f"Backend {wanted}")
    return Backend(wanted, version, _started(wanted, row))


def _started(name: str, row: Row) -> Load:
    try:
        found: Load = import_module(f"onnxact.check.runners.{row.module}").start()
    except Exception as error:
        raise ProviderError(f"backend {name} does not start: {said(error)}") from error
    return found


def installed() -> tuple[str, ...]:
    """The names of the backends whose packages are there."""
    return tuple(name for name, row in BACKENDS.items() if row.version is not None)


def _unknown(name: str, wanted: str) -> str:
    near = get_close_matches(wanted, BACKENDS, 1)
    meant = f", nearest {near[0]}" if near else ""
    known = ", ".join((ONNXRUNTIME, *BACKENDS))
    here = ", ".join((ONNXRUNTIME, *installed()))
    own = "a program of your own is named by its path, such as ./runner"
    return f"unknown backend {name!r}{meant}; known: {known}; installed: {here}; {own}"
