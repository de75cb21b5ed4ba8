"""Every form of the table in the place of its op, in every dtype that ONNX Runtime runs: right, and equivalent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, defs, helper, numpy_helper

import onnxact
from onnxact.activation.catalog import ACTIVATIONS, Activation
from onnxact.activation.expr import Literal, Parameter
from onnxact.activation.numeric import FLOATS, holds
from onnxact.activation.primitives import PRIMITIVES
from onnxact.check import check
from onnxact.check.alone import ELEM_TYPES
from onnxact.check.loading import UnloadableError
from tests.activation.cases import parameters_of

OPSET = 24
# Forms that say that they are another function, and clip6, which divides by 6 where the slope is the float32 number for
# 1/6; and where ONNX Runtime's own op is another: its Gelu computes with float32 constants in double precision too.
APART = {("gelu", "tanh"), ("gelu_tanh", "float64"), ("hard_sigmoid", "clip6")}


def written_out(activation: Activation, dtype: str) -> tuple[ModelProto, dict[str, str]] | None:
    """A model with one site for each form and set of parameters for which it holds, and node name -> form."""
    native = activation.native
    if native is None or ("op" in activation.forms and not activation.forms["op"].emitted):
        return None
    nodes: list[Any] = []
    weights: list[Any] = []
    names: dict[str, str] = {}
    for number, parameters in enumerate(parameters_of(activation)):
        if not holds(activation.forms["op"].when, parameters):
            continue
        for form in activation.forms:
            name = f"{activation.name}.{form}.{number}"
            row = activation.forms[form]
            written = form != "op" and row.emitted and (activation.name, form) not in APART
            if written and holds(row.when, parameters):
                names[name] = form
                nodes.append(_node(native, parameters, name, weights, dtype))
    x, *outputs = (helper.make_tensor_value_info(name, ELEM_TYPES[dtype], [3, 50]) for name in ("x", *names))
    graph = helper.make_graph(nodes, "forms", [x], outputs, weights)
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10), names


def _node(native: Any, parameters: dict[str, float], name: str, weights: list[Any], dtype: str) -> Any:
    stated = defs.get_schema(native.op, OPSET).attributes
    attributes: dict[str, Any] = {}
    inputs = ["x"]
    for operand, arg in list(zip(PRIMITIVES[native.op].operands, native.args, strict=False))[1:]:
        value = arg.value if isinstance(arg, Literal) else parameters[arg.name if isinstance(arg, Parameter) else ""]
        if operand in stated:
            attributes[operand] = value
        elif np.isinf(value):
            inputs.append("")
        else:
            inputs.append(f"{name}.{operand}")
            weights.append(numpy_helper.from_array(np.asarray(value, FLOATS[dtype]), inputs[-1]))
    while not inputs[-1]:
        inputs.pop()
    return helper.make_node(native.op, inputs, [name], name, **attributes)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda row: row.name)
def test_every_form_is_equivalent_to_its_op(activation: Activation, dtype: str) -> None:
    made = None if (activation.name, dtype) in APART else written_out(activation, dtype)
    if made is None:
        return
    before, names = made
    after, written = before, set[str]()
    for form in dict.fromkeys(names.values()):
        sites = [rf"\.{form}\.\d+$"]
        result = onnxact.decompose(after, form=form, activations=[activation.name], include=sites, provenance=False)
        after = result.model
        written.update(change.site.node for change in result.sites)
    if not written:
        return
    try:
        verdict = check(before, after, providers=["cpu"], diagnose=False)
    except UnloadableError as error:
        assert "Could not find an implementation" in str(error) or "is invalid" in str(error)
        return  # ONNX Runtime has no such kernel
    assert verdict.equivalent, verdict.summary()
    changed = {item.site.node: item for item in verdict.sites if item.alone != "identical"}
    assert written <= set(changed)
    for item in changed.values():
        assert item.outcome == "equivalent"
        for found in (item.before, item.after):
            assert found is None or not found.is_outside
