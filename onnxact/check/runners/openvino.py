"""OpenVINO on its CPU device, computing in float32: left to itself it takes bfloat16 where the processor has it."""

from __future__ import annotations

from pathlib import Path

from onnxact.check.runners.backend import Interface, Load, Run


def start() -> Load:
    """Models are compiled for the CPU."""
    import openvino

    core = openvino.Core()

    def load(path: Path, interface: Interface) -> Run:
        compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda feeds: list(compiled([feeds[name] for name in interface.inputs]).values())

    return load
