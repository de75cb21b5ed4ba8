"""(form, parameters, opset, dtype) -> why it cannot be written there; "" where it can: attributes, types, versions."""

from __future__ import annotations

import numpy as np
from onnx import FunctionProto

from onnxact.activation.expr import Call, Expr, Parameter, ops, parameters, varies, walk
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.view import View
from onnxact.rewrite.site import Dynamic, Parameters, Reference, Site, known

_CONSTANT_BY_REFERENCE = 12
"""Constant takes `value_float`, which can refer to a function's attribute, from this opset."""


def describe_dtype(site: Site) -> str:
    """Return why a site without a floating-point dtype is left alone."""
    if site.scope.types.elem_type(site.output):
        return "not a floating-point tensor"
    function = site.scope.root.graph
    if isinstance(function, FunctionProto) and (reason := _of_callers(site.scope.view, function)):
        return f"the element type of {site.output!r} is open: {reason}"
    return f"the element type of {site.output!r} is not known; run onnx.shape_inference on the model, or declare it"


def _of_callers(view: View, function: FunctionProto) -> str:
    """Return why the callers of a function do not tell its types; empty where it is not their doing."""
    if (uncalled := view.calls.uncalled(function)) is not None:
        through = "" if uncalled is function else ", which calls it"
        return f"nothing calls the function {uncalled.name}{through}; take it out of the model, or call it"
    for position, name in enumerate(function.input):
        types = view.calls.argument_types(function, position)
        if len(types) > 1 and 0 not in types:
            listed = " and ".join(sorted(map(schema.type_name, types)))
            return f"the function {function.name} is called with {listed} for {name!r}; write one function for each"
    return ""


def attribute_obstacle(expr: Expr, bound: Parameters, opset: int, dtype: str) -> str:
    """Return why a parameter cannot be written where the op wants an attribute; empty where it can."""
    for call in walk(expr):
        if not isinstance(call, Call) or not varies(call):
            continue
        stated = schema.attributes(call.op, opset)
        for name, arg in zip(PRIMITIVES[call.op].operands, call.args, strict=False):
            if name in stated and not varies(arg):
                obstacle = _obstacle(call.op, name, arg, bound) or _rounding(call.op, name, arg, bound, dtype)
                if obstacle:
                    return obstacle
    return ""


def _obstacle(op: str, name: str, arg: Expr, bound: Parameters) -> str:
    values = [bound[parameter] for parameter in parameters(arg)]
    if any(isinstance(value, Dynamic) for value in values):
        return f"{op}'s {name} is an attribute, and the parameter is computed when the model runs"
    if any(isinstance(value, Reference) for value in values) and not isinstance(arg, Parameter):
        return f"{op}'s {name} is an attribute, and the parameter comes from the function's caller"
    return ""


def _rounding(op: str, name: str, arg: Expr, bound: Parameters, dtype: str) -> str:
    """Return which double an attribute, which is float32, cannot hold; empty for none."""
    values = known({parameter: bound[parameter] for parameter in parameters(arg)}) if dtype == "float64" else None
    for value in (values or {}).values():
        wide = np.asarray(value, np.float64)
        lost = wide[np.isfinite(wide) & (wide.astype(np.float32) != wide)]
        if lost.size:
            return f"{op}'s {name} is a float32 attribute, and {float(lost[0])!r} is no float32 number"
    return ""


def version_obstacle(site: Site, expr: Expr) -> str:
    """Return which op a function cannot be given; empty for none.

    Where a function imports another opset than the model, onnx.checker wants every op in it to be the same in both
    (onnx/checker.cc, check_model_local_functions).
    """
    mine, models = site.scope.opset, site.scope.view.main.opset
    if mine == models or not site.scope.root.is_function:
        return ""
    for op in sorted(ops(expr) | ({"Constant"} if _takes_constants(expr, mine) else set())):
        here, there = schema.schema(op, mine), schema.schema(op, models)
        if here is None or there is None or here.since_version != there.since_version:
            return f"the function imports opset {mine} and the model {models}, in which {op} is not the same"
    return ""


def _takes_constants(expr: Expr, opset: int) -> bool:
    calls = [call for call in walk(expr) if isinstance(call, Call) and varies(call)]
    return any(
        name not in schema.attributes(call.op, opset) and not varies(arg)
        for call in calls
        for name, arg in zip(PRIMITIVES[call.op].operands, call.args, strict=False)
    )


def reference_obstacle(expr: Expr, bound: Parameters, opset: int, dtype: str) -> str:
    """Return why a function's attribute cannot become an operand; empty where it can."""
    references = [value for name in parameters(expr) if isinstance(value := bound[name], Reference)]
    if not references:
        return ""
    if missing := [reference.attribute for reference in references if not reference.always]:
        return f"the parameter is attribute {missing[0]!r} of the function, which not every call of it states"
    if dtype != "float32":
        return f"the parameter is an attribute of the function, and only float32 can take its value, not {dtype}"
    if opset < _CONSTANT_BY_REFERENCE:
        return "the parameter is an attribute of the function, whose value a Constant can take from opset 12"
    return ""
