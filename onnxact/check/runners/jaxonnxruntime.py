"""jaxonnxruntime: the model as a JAX function, run on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from onnxact.check.runners.backend import Array, Interface, Load, Run


def start() -> Load:
    """Models are interpreted, so that a missing op shows in the run."""
    from jaxonnxruntime.backend import Backend

    def load(path: Path, interface: Interface) -> Run:
        model = onnx.load(path)

        def run(feeds: Mapping[str, Array]) -> list[Array]:
            return list(Backend.run_model(model, {name: feeds[name] for name in interface.inputs}))

        return run

    return load
