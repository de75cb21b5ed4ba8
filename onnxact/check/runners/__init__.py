"""Runtimes other than ONNX Runtime on which a model can be checked: (name) -> Backend, (before, after, Backend) ->
evidence.

A runner is one file with a function `start`, which imports the runtime and returns what loads a model with it, and a
row in `known`.
"""

from onnxact.check.runners.backend import Backend, Interface, Opened, Refused, Run
from onnxact.check.runners.known import BACKENDS, find_backend, installed

__all__ = ["BACKENDS", "Backend", "Interface", "Opened", "Refused", "Run", "find_backend", "installed"]
