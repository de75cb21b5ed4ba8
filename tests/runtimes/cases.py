"""Every activation that a runtime was seen to refuse, or to compute wrongly, as a model of one node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from onnx import ModelProto, helper

from onnxact.activation.catalog import ACTIVATIONS
from tests.laws.models import Values, one_node

SHAPE = [1, 8, 32, 32]
Natively = Literal["refused", "wrong"]


@dataclass(frozen=True)
class Case:
    """An activation on a runtime at an opset, and what the runtime does with the op itself."""

    runtime: str
    activation: str
    opset: int
    natively: Natively
    parameters: Values = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.runtime}-{self.activation}-{self.opset}"

    @property
    def numbers(self) -> Mapping[str, float]:
        """The parameters, none of which is one of several."""
        return {name: value for name, value in self.parameters.items() if isinstance(value, float)}

    def model(self) -> ModelProto:
        """y = op(x), x of shape SHAPE: some runtimes read no open dimensions."""
        found = one_node(ACTIVATIONS[self.activation], self.opset, "float32", self.parameters)
        assert found is not None, self
        for value in (*found.graph.input, *found.graph.output):
            if value.name in {"x", "y"}:
                value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, SHAPE))
        return found


_FIRST: Mapping[str, int] = {"hard_swish": 14, "mish": 18, "gelu": 20, "gelu_tanh": 20, "swish": 24}
"""The first opset that has the op, where that is after 13."""
_CHOSEN: Mapping[str, Values] = {
    "swish": {"beta": 1.5},
    "celu": {"alpha": 2.0},
    "clip": {"min": 0.0, "max": 6.0},
    "prelu": {"slope": 0.25},
}
_NO_SIGMOIDS = ("thresholded_relu", "selu", "hard_sigmoid", "hard_swish", "swish", "mish", "gelu")
_REFUSED: Mapping[str, tuple[str, ...]] = {
    "onnx2torch": ("thresholded_relu", "swish", "mish", "gelu", "gelu_tanh"),
    "jaxonnxruntime": (
        "relu", "relu6", "clip", "prelu", "thresholded_relu", "elu", "celu", "softsign", "hard_sigmoid", "hard_swish",
        "swish", "mish", "gelu", "gelu_tanh",
    ),
    "ort-web-webgl": (*_NO_SIGMOIDS, "celu", "softplus", "softsign", "gelu_tanh"),
    "wonnx": (*_NO_SIGMOIDS, "gelu_tanh"),
}  # fmt: skip
_REFUSED_FROM_22: Mapping[str, tuple[str, ...]] = {
    "onnx2torch": ("elu", "selu", "softplus", "softsign", "hard_sigmoid", "hard_swish"),
    "jaxonnxruntime": ("selu", "softplus"),
}
_WRONG: Mapping[str, tuple[str, ...]] = {
    "tract": ("celu", "softplus", "swish"),
    "opencv": ("softplus", "tanh", "swish", "gelu_tanh"),
    "wonnx": ("softplus",),
}


def _cases() -> Iterator[Case]:
    tables: tuple[tuple[Mapping[str, tuple[str, ...]], int, Natively], ...] = (
        (_WRONG, 13, "wrong"),
        (_REFUSED, 13, "refused"),
        (_REFUSED_FROM_22, 22, "refused"),
    )
    for table, opset, natively in tables:
        for runtime, activations in table.items():
            for name in activations:
                yield Case(runtime, name, max(opset, _FIRST.get(name, 0)), natively, _CHOSEN.get(name, {}))


CASES = tuple(_cases())
