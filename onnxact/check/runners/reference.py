"""onnx.reference.ReferenceEvaluator: onnx's own executable definition of the operators, in NumPy."""

from __future__ import annotations

from pathlib import Path

from onnxact.check.runners.backend import Interface, Load, Run


def start() -> Load:
    """An op without an implementation is refused when a model is read."""
    from onnx.reference import ReferenceEvaluator

    def load(path: Path, interface: Interface) -> Run:
        evaluator = ReferenceEvaluator(str(path))
        return lambda feeds: evaluator.run(list(interface.outputs), dict(feeds))

    return load
