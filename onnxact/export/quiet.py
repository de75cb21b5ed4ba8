"""What PyTorch's exporter prints and logs on its way, held back; what matters of it is in its exceptions."""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from onnxact.errors import MissingPackageError


def require_torch(purpose: str = "export") -> None:
    """Raise MissingPackageError, with the pip line, where torch or the exporter's onnxscript is not installed."""
    _require("torch", purpose)
    _require("onnxscript", purpose)


def _require(package: str, purpose: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != package:
            raise
        raise MissingPackageError(package, "torch", purpose) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Hold back warnings, log records, and what goes to stdout and stderr from Python. As before afterwards.

    A failing torch.export prints whole graphs to stderr, and torch.onnx logs that torchvision is missing, each time.
    """
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
