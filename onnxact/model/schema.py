"""What ONNX says about an op at an opset: operand kinds, admitted dtypes, defaults. All from `onnx.defs`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import onnx
from onnx import TensorProto, defs

from onnxact.activation.forms import plain_name
from onnxact.activation.primitives import PRIMITIVES
from onnxact.arguments import nearest
from onnxact.errors import UsageError

FLOAT_TYPES = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
}
LATEST_OPSET: int = defs.onnx_opset_version()
_TYPE_STRING = {"float16": "float16", "bfloat16": "bfloat16", "float32": "float", "float64": "double"}
_ELEM_TYPE = {
    f"tensor({name})": int(getattr(TensorProto, key))
    for name, key in (
        ("bool", "BOOL"), ("string", "STRING"), ("float", "FLOAT"), ("double", "DOUBLE"), ("float16", "FLOAT16"),
        ("bfloat16", "BFLOAT16"), ("int8", "INT8"), ("int16", "INT16"), ("int32", "INT32"), ("int64", "INT64"),
        ("uint8", "UINT8"), ("uint16", "UINT16"), ("uint32", "UINT32"), ("uint64", "UINT64"),
    )
}  # fmt: skip


def type_name(elem_type: int) -> str:
    """Return what an element type is called: float32, int32; empty for an unknown one."""
    name = str(TensorProto.DataType.Name(elem_type)).lower() if elem_type else ""
    return {"float": "float32", "double": "float64"}.get(name, name)


def plain(domain: str) -> str:
    """Return the domain with ONNX's own spelled the short way."""
    return "" if domain == "ai.onnx" else domain


@cache
def schema(op: str, opset: int, domain: str = "") -> defs.OpSchema | None:
    """Return the op's schema at this opset, or None where the op does not exist (yet, or any more)."""
    try:
        found = defs.get_schema(op, min(opset, LATEST_OPSET) if domain == "" else opset, domain)
    except defs.SchemaError:
        return None
    return None if found.deprecated else found


@cache
def may_hold_bodies(op: str) -> bool:
    """Tell whether nodes of an op can have subgraphs. Of ONNX's own ops few do; of an op that it has not, any may."""
    found = schema(op, LATEST_OPSET)
    bodies = (defs.OpSchema.AttrType.GRAPH, defs.OpSchema.AttrType.GRAPHS)
    return found is None or any(attribute.type in bodies for attribute in found.attributes.values())


@cache
def first_opset(op: str) -> int | None:
    """Return the opset in which ONNX introduced the op, or None for an unknown one."""
    found = schema(op, LATEST_OPSET)
    while found is not None and found.since_version > 1:
        older = schema(op, found.since_version - 1)
        if older is None:
            return int(found.since_version)
        found = older
    return None if found is None else 1


@cache
def attributes(op: str, opset: int) -> dict[str, Any]:
    """Return attribute name -> default (None where there is none) of an op that exists at `opset`."""
    found = schema(op, opset)
    if found is None:
        return {}
    return {
        name: onnx.helper.get_attribute_value(attribute.default_value) if attribute.default_value.name else None
        for name, attribute in found.attributes.items()
    }


@cache
def admits(op: str, dtype: str, opset: int) -> bool:
    """Tell whether some operand of the op may be a tensor of `dtype` ("float32", ...) at `opset`."""
    found = schema(op, opset)
    if found is None:
        return False
    wanted = f"tensor({_TYPE_STRING[dtype]})"
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in found.type_constraints}
    operands = [*found.inputs, *found.outputs]
    return any(wanted in allowed.get(operand.type_str, {operand.type_str}) for operand in operands)


@cache
def op_names(domain: str | None = "") -> frozenset[str]:
    """Return every op that ONNX ever had in a domain; None for all of its domains."""
    return frozenset(s.name for s in defs.get_all_schemas_with_history() if domain in (None, plain(s.domain)))


def known_ops(names: Iterable[str]) -> frozenset[str]:
    """Return names of ops as ONNX writes them, whatever their case; those of another domain (`domain::Op`) as given.

    Raises UsageError for an op that no version of ONNX has.
    """
    known = {plain_name(op): op for op in op_names(None)}
    found = []
    for name in names:
        if "::" not in name and plain_name(name) not in known:
            listed = ", ".join(sorted(op for op in PRIMITIVES if op in op_names()))
            raise UsageError(
                f"unknown op {name!r}{nearest(name, known.values(), most=1)}: no op of ONNX; known to forms: {listed}"
            )
        found.append(known.get(plain_name(name), name))
    return frozenset(found)


class TypeRule(NamedTuple):
    """Where an output's element type comes from: a fixed type, or the first input that shares its type variable."""

    fixed: int
    input: int


@cache
def type_rules(op: str, opset: int, domain: str) -> tuple[TypeRule, ...]:
    """Return one rule per output of the op; empty for an op without schema."""
    found = schema(op, opset, domain)
    if found is None:
        return ()
    allowed = {c.type_param_str: list(c.allowed_type_strs) for c in found.type_constraints}
    return tuple(_type_rule(output.type_str, found, allowed) for output in found.outputs)


def _type_rule(variable: str, found: defs.OpSchema, allowed: dict[str, list[str]]) -> TypeRule:
    for index, operand in enumerate(found.inputs):
        if operand.type_str == variable:
            return TypeRule(0, index)
    types = allowed.get(variable, [variable])
    return TypeRule(_ELEM_TYPE.get(types[0], 0) if len(types) == 1 else 0, -1)
