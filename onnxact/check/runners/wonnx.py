"""wonnx: WebGPU through Vulkan, for which a software device is enough (Debian's mesa-vulkan-drivers)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxact.check.runners.backend import Array, Interface, Load, Refused, Run, said


def start() -> Load:
    """Values are flat lists on both sides, so that the shapes of outputs have to be declared in the model.

    Raises Refused where there is no Vulkan device: every model would be refused.
    """
    import wonnx

    try:
        wonnx.Session.from_bytes(_one_node())
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise Refused(f"it does not run a one-node model; is there a Vulkan device? {said(error)}") from error

    def load(path: Path, interface: Interface) -> Run:
        session = wonnx.Session.from_path(str(path))
        shapes = _shapes(onnx.load(path, load_external_data=False))

        def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
            found = session.run({name: feeds[name].reshape(-1) for name in interface.inputs})
            return {name: np.asarray(found[name], np.float32).reshape(shapes[name]) for name in interface.outputs}

        return run

    return load


def _one_node() -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return bytes(model.SerializeToString())


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    found = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.output}
    if unknown := [name for name, shape in found.items() if 0 in shape]:
        raise Refused(f"wonnx gives flat lists, and the shape of output {unknown[0]!r} is not declared")
    return found
