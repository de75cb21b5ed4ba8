"""The exceptions that onnxact raises for mistakes and limits that a user can act on.

OnnxactError
├── UsageError            an option or argument that makes no sense           exit code 2
├── MissingPackageError   an optional package is not installed                exit code 3
├── ProviderError         an execution provider is absent or did not run      exit code 3
├── ModelError            a model or file that is missing, broken, or invalid exit code 5
├── FileConflictError     a write that would overwrite something              exit code 5
└── ExportError           a PyTorch module that cannot be exported            exit code 5

A verdict of "different" or "inconclusive" is a result, not an exception; so is a model in which no site can be written
in the form or the ops asked for: the reason against every form is among the skips. Anything raised that is not an
OnnxactError is a defect of onnxact.
"""

from __future__ import annotations


class OnnxactError(Exception):
    """Root of the tree. `exit_code` is what the command line returns for it."""

    exit_code = 70


class UsageError(OnnxactError):
    """An argument that makes no sense; the message names it and says what is accepted."""

    exit_code = 2


class MissingPackageError(OnnxactError):
    """An optional package is not installed; the message gives the pip line."""

    exit_code = 3

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'onnxact[{extra}]'")
        self.package = package


class ProviderError(OnnxactError):
    """An execution provider that was asked for is absent or did not run."""

    exit_code = 3


class ModelError(OnnxactError):
    """A model or file that is missing, unreadable, or invalid."""

    exit_code = 5


class FileConflictError(OnnxactError):
    """A write that would overwrite or delete something that is not its own."""

    exit_code = 5


class ExportError(OnnxactError):
    """A PyTorch module that cannot be exported."""

    exit_code = 5
