"""tract (github.com/sonos/tract): inputs and outputs by position."""

from __future__ import annotations

from pathlib import Path

from onnxact.check.runners.backend import Interface, Load, Run


def start() -> Load:
    """Models are loaded, analysed and optimised, as in tract's own examples."""
    import tract

    def load(path: Path, interface: Interface) -> Run:
        runnable = tract.onnx().load(str(path)).into_model().into_runnable()
        return lambda feeds: [found.to_numpy() for found in runnable.run([feeds[name] for name in interface.inputs])]

    return load
