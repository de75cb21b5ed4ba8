"""Forms -> one ONNX model that computes each of them from the same input, written as the rewrites write them.

    {"op": LeakyRelu(x, alpha), "mul-max": Max(x, alpha * x)}  ->  x -> op, mul-max

Each stands in the place of an Identity node, so that what is proven is what `decompose` emits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from onnx import ModelProto, helper

from onnxact.activation.catalog import Activation, Form
from onnxact.model.edit import apply
from onnxact.model.schema import FLOAT_TYPES, schema
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.draft import Drafter
from onnxact.rewrite.site import Bound, Kind, Parameters, Site, Tensor

_NEWEST_IR = 10
_ELEM_TYPES = {name: int(elem_type) for elem_type, name in FLOAT_TYPES.items()}
INPUT = "x"


@dataclass(frozen=True)
class Subject:
    """An activation with its parameters, as float64 numbers that the dtype holds, at an opset.

    A tensor of slopes has shape [C, 1]; x then has shape [C, n], every row the same.
    """

    activation: Activation
    parameters: Mapping[str, Any]
    dtype: str
    opset: int

    @cached_property
    def lanes(self) -> int:
        """How many rows x has: one for each slope of a tensor, else 0 for an x of shape [n]."""
        return max((value.shape[0] for value in self.parameters.values() if getattr(value, "ndim", 0) == 2), default=0)

    @property
    def bound(self) -> Parameters:
        """The parameters as a rewrite binds them."""
        return {name: _bound(value) for name, value in self.parameters.items()}

    def output(self, form: str) -> str:
        """Return the model's output of a form; form names have characters that value names had better not have."""
        return "y_" + "".join(c if c.isalnum() else "_" for c in form)


def _bound(value: Any) -> Bound:
    return float(value) if getattr(value, "ndim", 0) == 0 else Tensor("", value)


def write(subject: Subject, forms: Mapping[str, Form]) -> ModelProto:
    """Return the model with one output for each form, in their order."""
    outputs = [subject.output(name) for name in forms]
    model = _identities(subject, outputs)
    view = View(model)
    drafter = Drafter(view)
    kind = Kind(view.main, subject.activation.name, "op", subject.bound, subject.dtype, unary=True)
    for index, (name, form) in enumerate(forms.items()):
        site = Site(kind, index)
        drafter.write(site, After(subject.activation.name, name, subject.bound, form.expr))
    apply(view, drafter.finish().plan)
    return model


def _identities(subject: Subject, outputs: Sequence[str]) -> ModelProto:
    elem_type = _ELEM_TYPES[subject.dtype]
    shape: list[int | str | None] = [subject.lanes, "n"] if subject.lanes else ["n"]
    nodes = [helper.make_node("Identity", [INPUT], [name], f"node_{name}") for name in outputs]
    values = [helper.make_tensor_value_info(name, elem_type, shape) for name in (INPUT, *outputs)]
    graph = helper.make_graph(nodes, subject.activation.name, values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", subject.opset)], ir_version=_NEWEST_IR)


def op_name(activation: Activation, opset: int) -> str:
    """Return the native op with the version that this opset has, for a person: LeakyRelu-16."""
    native = activation.native
    found = schema(native.op, opset) if native is not None else None
    return f"{native.op}-{found.since_version}" if native is not None and found is not None else ""
