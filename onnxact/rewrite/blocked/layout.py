"""Weights of a convolution in blocks of channels -> [O, I, H, W].

    of outputs:             [O/b, I, H, W, b]            of inputs and outputs:  [O/b, I/b, H, W, b, b]

b is 8 or 16, which depends on the processor that the model was saved on; the last b stands for outputs. Channels are
padded with zeros to a multiple of b.

Source: onnxruntime, core/mlas/lib/reorder.cpp (MlasReorderFilterOIHWBo, MlasReorderFilterOIHWBiBo) and platform.cpp
(NchwcBlockSize: 16 with AVX-512 and on ARM, else 8).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

SIZES = (8, 16)
"""How many channels a block can have."""


def in_order(weights: NDArray[Any], block: int, *, inputs_too: bool) -> NDArray[Any]:
    """Return weights, declared as [O, I, H, W] and stored in blocks, in the order that they are declared in."""
    outputs, inputs, height, width = weights.shape
    if inputs_too:
        laid = weights.reshape(outputs // block, inputs // block, height, width, block, block)
        return np.ascontiguousarray(laid.transpose(0, 5, 1, 4, 2, 3)).reshape(weights.shape)
    laid = weights.reshape(outputs // block, inputs, height, width, block)
    return np.ascontiguousarray(laid.transpose(0, 4, 1, 2, 3)).reshape(weights.shape)


def padded(channels: int, block: int) -> int:
    """Return how many channels are stored for so many."""
    return -(-channels // block) * block


@cache
def installed() -> int:
    """Return the block of the installed ONNX Runtime on this machine, 0 where there is none."""
    try:
        import onnxruntime
    except ImportError:
        return 0
    return _saved(onnxruntime)


def _saved(onnxruntime: Any) -> int:
    """Return the number of output channels to which the installed ONNX Runtime pads one of 8."""
    import tempfile
    from pathlib import Path

    import onnx

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "probe.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(_probe().SerializeToString(), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    blocked = [node.input[1] for node in graph.node if node.domain == "com.microsoft.nchwc" and node.op_type == "Conv"]
    return next((tensor.dims[0] for tensor in graph.initializer if tensor.name in blocked), 0)


def _probe() -> ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 4, 4]) for name in ("x", "y")]
    weights = numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")
    graph = helper.make_graph([node], "probe", values[:1], values[1:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
