"""The networks of the exhibit, with any activation in place of their ReLUs, at any opset from 13 on.

The trained network of models/, and two of the corpus. One is without convolutions: Conv has a version 22, which
onnx2torch 1.5.15 and jaxonnxruntime 0.3.0 do not know, and onnx2torch knows no Reshape from version 19 on. The other is
of wonnx itself, whose version 0.5.1 refuses the Gemm of the first and computes the MatMul of the second wrongly.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, helper, shape_inference, version_converter

import onnxact
from tests.runtimes.cases import Case

MODELS = Path(__file__).resolve().parents[2] / "models"
CORPUS = (
    Path("scailable+sclblonnx", "examples", "onnx", "tf-keras-dynamic.onnx"),
    Path("webonnx+wonnx", "data", "models", "opt-mnist.onnx"),
)


@dataclass(frozen=True)
class Network:
    """A model with ReLUs in a file."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    def at(self, opset: int) -> ModelProto:
        """The network at another opset, for one input at a time."""
        model = inferred(at_opset(for_one(onnx.load(self.path)), opset))
        model.ir_version = max(model.ir_version, helper.find_min_ir_version_for(list(model.opset_import)))
        return model

    def with_activation(self, case: Case) -> ModelProto:
        """The same with the activation of the case, at its opset."""
        model = self.at(case.opset)
        if case.activation == "relu":
            return model
        found = onnxact.swap(model, "relu", case.activation, parameters=dict(case.numbers)).model
        assert isinstance(found, ModelProto)
        return found


def networks() -> tuple[Network, ...]:
    """Those that are here: the corpus need not be."""
    corpus = os.environ.get("ONNXACT_CORPUS")
    paths = [MODELS / "digits_relu.onnx", *(Path(corpus) / path for path in CORPUS if corpus)]
    return tuple(Network(path) for path in paths if path.exists())


def for_one(model: ModelProto) -> ModelProto:
    """The model with open dimensions set to 1: WebGL and wonnx read no others."""
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = 1
    return model


def at_opset(model: ModelProto, opset: int) -> ModelProto:
    """The model at another opset. At 13 its ops mean what they mean at 18, but for Reshape's allowzero, which is 0."""
    stated = next(item for item in model.opset_import if not item.domain)
    if opset > stated.version:
        return version_converter.convert_version(model, opset)
    stated.version = opset
    for node in model.graph.node:
        if node.op_type == "Reshape":
            node.ClearField("attribute")
    onnx.checker.check_model(model)
    return model


def inferred(model: ModelProto) -> ModelProto:
    """The model with the shapes of its values for these inputs, which tract and wonnx go by."""
    del model.graph.value_info[:]
    return shape_inference.infer_shapes(model)
