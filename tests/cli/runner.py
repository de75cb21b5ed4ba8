"""Running the command line in this process, small models to run it on, and what a folder holds."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxact.cli import app

MODELS = Path(__file__).parents[2] / "models"
DIGITS = MODELS / "digits_relu.onnx"


@dataclass(frozen=True)
class Outcome:
    """What a command line ended with."""

    code: int
    out: str
    err: str


def invoke(*arguments: str | Path) -> Outcome:
    """Run one command line as `main` does."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = app.run([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def spawn(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start one command line in a process of its own."""
    command = [sys.executable, "-c", "from onnxact.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **{"stdout": subprocess.PIPE, **options})


def weights(place: str | None = None, dims: tuple[int, ...] = (4,), **entries: str | int) -> TensorProto:
    """Return the tensor w, in the model or at `place` outside it."""
    if place is None:
        return numpy_helper.from_array(np.ones(dims, np.float32), "w")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": place, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model(w: TensorProto | None = None, op: str = "Relu", **attributes: Any) -> ModelProto:
    """Return act(x + w)."""
    nodes = [
        helper.make_node("Add", ["x", "w"], ["a"], name="add"),
        helper.make_node(op, ["a"], ["y"], name="act", **attributes),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [w or weights()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write(path: Path, proto: ModelProto | None = None) -> Path:
    """Write a model, act(x + w) if none is given."""
    path.write_bytes((proto or model()).SerializeToString())
    return path


def contents(folder: Path) -> dict[str, Any]:
    """Return name -> link target, or content, for everything in a folder."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
