"""A node that computes more than an activation -> steps before it, the activation, and steps behind it.

FusedConv(x, w, activation = "LeakyRelu")  ->  Expansion("leaky_relu", before=(Conv(x, w),))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, NodeProto, helper

from onnxact.activation.catalog import ACTIVATIONS, Activation
from onnxact.activation.expr import Literal, Parameter
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.rewrite.compile import Step, X
from onnxact.rewrite.site import Parameters, Site


class _Result:
    """Stands for the activation's result among the operands of what comes behind it."""


RESULT = _Result()


class Expansion(NamedTuple):
    """What a fused node computes: `before`, then the activation ("" for none), then `behind`.

    `input`: the value that enters the activation where nothing comes before it. `quantised`: what is between the first
    and the last node is float32, whatever the node's own type is.
    """

    activation: str
    parameters: Parameters
    before: tuple[Step, ...] = ()
    behind: tuple[Step, ...] = ()
    quantised: bool = False

    def wrapped(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Return the steps of a form of the activation with what comes before and behind it."""
        offset = len(self.before)
        first: Any = offset - 1 if self.before else X
        inner = [_renumbered(step, offset, first) for step in steps]
        last = offset + len(steps) - 1 if steps else first
        behind = [_with_result(step, last) for step in self.behind]
        found = (*self.before, *inner, *behind)
        return tuple(step._replace(makes="float") for step in found) if self.quantised else found


def _renumbered(step: Step, offset: int, first: Any) -> Step:
    operands = [first if o is X else o + offset if isinstance(o, int) else o for o in step.operands]
    return step._replace(operands=tuple(operands))


def _with_result(step: Step, number: Any) -> Step:
    return step._replace(operands=tuple(number if operand is RESULT else operand for operand in step.operands))


class Fused(NamedTuple):
    """A fused node of a model as a site, with its expansion or the reason why it has none."""

    site: Site
    expansion: Expansion | None
    reason: str = ""


def full_name(node: NodeProto) -> str:
    """Return the op type with its domain, unless that is ONNX's own."""
    return f"{node.domain}::{node.op_type}" if schema.plain(node.domain) else node.op_type


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the values of the attributes that a node states."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def kept(node: NodeProto, *without: str) -> tuple[AttributeProto, ...]:
    """Return the attributes that are those of the standard op."""
    return tuple(a for a in node.attribute if a.name not in without and not a.name.startswith("activation"))


_ROWS = {
    row.native.op: row
    for row in ACTIVATIONS.values()
    if row.native is not None and not any(isinstance(arg, Literal) for arg in row.native.args)
}
"""Op -> the activation that it is whatever its operands are: Clip is clip, not relu6."""


def named(node: NodeProto, stated: Callable[[int, str], Any]) -> Expansion | str:
    """Return the activation that a node names, each parameter as `stated(position, operand)`, None for its default."""
    name = attributes_of(node).get("activation", b"").decode()
    if not name:
        return Expansion("", {})
    row = _ROWS.get(name)
    if row is None or row.native is None:
        return f"{full_name(node)} has activation {name!r}, which is none that onnxact knows"
    return Expansion(row.name, parameters_of(row, stated))


def parameters_of(row: Activation, stated: Callable[[int, str], Any]) -> dict[str, float]:
    """Return the parameters of an activation, each as `stated(position, operand)`, None for its default."""
    found = dict(row.defaults)
    native = row.native
    args = native.args[1:] if native is not None else ()
    for position, arg in enumerate(args):
        operand = PRIMITIVES[native.op].operands[position + 1] if native is not None else ""
        value = stated(position, operand)
        if isinstance(arg, Parameter) and value is not None:
            found[arg.name] = float(np.float32(value))
    return found


def trimmed(names: list[Any]) -> tuple[Any, ...]:
    """Return inputs without those at the end that are left out."""
    while names and names[-1] == "":
        names = names[:-1]
    return tuple(names)


def step(op: str, operands: tuple[Any, ...], attributes: tuple[Any, ...] = ()) -> Step:
    """Return a step whose result has the type of the site's output."""
    return Step(op, operands, attributes, "value", op.lower())


def too_new(found: Expansion, name: str, opset: int) -> str:
    """Return which of the steps has an op that this opset does not have; empty for none."""
    for one in (*found.before, *found.behind):
        if schema.schema(one.op, opset) is None:
            first = schema.first_opset(one.op)
            return f"{name} comes down to {one.op}, which starts at opset {first}, and this is {opset}"
    return ""
