"""onnx.reference.ReferenceEvaluator: onnx's own executable definition of the operators, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxact.check.runners.backend import Array, Interface, Load, Run


def start() -> Load:
    """An op without an implementation is refused when a model is read; an overflow is what NumPy makes of it."""
    from onnx.reference import ReferenceEvaluator

    def load(path: Path, interface: Interface) -> Run:
        evaluator = ReferenceEvaluator(str(path))

        def run(feeds: Mapping[str, Array]) -> list[Any]:
            with np.errstate(all="ignore"):
                return list(evaluator.run(list(interface.outputs), dict(feeds)))

        return run

    return load
