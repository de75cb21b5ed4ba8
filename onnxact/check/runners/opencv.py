"""OpenCV's DNN module: inputs and outputs by name; which of its engines loads a model is left to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from onnxact.check.runners.backend import Array, Interface, Load, Run


def start() -> Load:
    """Outputs are copied, for the next run overwrites them."""
    import cv2

    def load(path: Path, interface: Interface) -> Run:
        net = cv2.dnn.readNetFromONNX(str(path))

        def run(feeds: Mapping[str, Array]) -> list[Array]:
            for name in interface.inputs:
                net.setInput(feeds[name], name)
            return [found.copy() for found in net.forward(list(interface.outputs))]

        return run

    return load
