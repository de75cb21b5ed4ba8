"""A plan says what will change; `apply` changes it. The only code that writes to a ModelProto.

    Plan(edits, skips, constants)  --apply-->  the same ModelProto, edited in place

An edit replaces the nodes of one site. The node that computes the site's output stays where it is and keeps its name,
output, doc string and metadata; only its op, inputs and attributes change. New nodes stand directly before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from onnxact.model.provenance import KEY
from onnxact.model.view import Scope, View

AttributeValue = float | int | str
Makes = Literal["value", "truth", "parameter"]


class NewNode(NamedTuple):
    """A node to be written; attributes are (name, value) or, copied as they are, AttributeProtos.

    `inputs` is None for a replaced node that keeps its inputs.
    """

    op: str
    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...] = ()
    name: str = ""
    attributes: Sequence[tuple[str, AttributeValue] | AttributeProto] = ()
    makes: Makes = "value"
    """What its output is: a value with the type of the site's output, a truth value of that shape, or something made
    from parameters alone, with that element type and a shape of its own."""


class NewConstant(NamedTuple):
    """A constant to be written: an initializer, or a Constant node standing before the node at index `before`.

    `reference` is the attribute of the enclosing local function whose value it takes, instead of a value of its own.
    """

    scope: str
    name: str
    value: NDArray[Any]
    before: int | None = None
    reference: str = ""


class Edit(NamedTuple):
    """The replacement of one site's nodes; indices count the nodes of the scope before anything is applied."""

    scope: str
    root: int
    replacement: NewNode
    new: tuple[NewNode, ...] = ()
    removed: tuple[int, ...] = ()
    dead_constants: tuple[str, ...] = ()
    provenance: str | None = None


@dataclass(frozen=True)
class Skip:
    """One place left alone, with a reason that a person can act on."""

    scope: str
    node: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything that one verb decided about one model, before anything is changed."""

    edits: tuple[Edit, ...]
    skips: tuple[Skip, ...] = ()
    constants: tuple[NewConstant, ...] = ()


def apply(view: View, plan: Plan) -> None:
    """Carry out `plan` on the view's model, for which it was made. Nothing that no edit names changes a byte.

    The view no longer describes the model afterwards.
    """
    edits: dict[str, list[Edit]] = {}
    for edit in plan.edits:
        edits.setdefault(edit.scope, []).append(edit)
    constants: dict[str, list[NewConstant]] = {}
    for constant in plan.constants:
        constants.setdefault(constant.scope, []).append(constant)
    # Inner scopes first: sorting the nodes of an outer one moves the messages that hold them.
    for path in sorted(edits, key=lambda path: -path.count("/")):
        _apply_to_scope(view.by_path[path], edits[path], constants.get(path, []))


def _apply_to_scope(scope: Scope, edits: list[Edit], constants: list[NewConstant]) -> None:
    graph = scope.graph
    count = len(scope.nodes)
    order = [2 * index for index in range(count)]
    for constant in constants:
        if constant.before is None and isinstance(graph, GraphProto):
            graph.initializer.append(numpy_helper.from_array(constant.value, constant.name))
        else:
            _add_constant_node(graph, constant)
            order.append(2 * (constant.before or 0) - 1)
    for edit in edits:
        for new in edit.new:
            _write(graph.node.add(output=new.outputs, name=new.name), new)
            order.append(2 * edit.root - 1)
        if edit.new:
            _declare_types(scope, edit)
        _replace(scope.nodes[edit.root], edit)
    _remove(scope, edits, order)
    if len(order) > count or GONE in order:
        _arrange(graph, order, kept=sum(position < GONE for position in order))


GONE = 2**62


def _remove(scope: Scope, edits: list[Edit], order: list[int]) -> None:
    """Delete initializers and value_info that only removed nodes used, and mark those nodes in `order`."""
    trees = [edit for edit in edits if edit.removed or edit.dead_constants]
    if not trees:
        return
    names = {name for edit in trees for name in edit.dead_constants}
    indices = {index for edit in trees for index in edit.removed}
    indices.update(scope.producers[name] for name in names if name in scope.producers)
    for index in indices:
        order[index] = GONE
        names.update(scope.nodes[index].output)
    _keep(scope.graph.value_info, [entry.name not in names for entry in scope.graph.value_info])
    if isinstance(scope.graph, GraphProto):
        _keep(scope.graph.initializer, [tensor.name not in names for tensor in scope.graph.initializer])


def _arrange(graph: GraphProto | FunctionProto, order: list[int], kept: int) -> None:
    """Sort the appended nodes into their places and drop the removed ones; no message is copied."""
    if any(a > b for a, b in pairwise(order)):
        positions = iter(order)
        graph.node.sort(key=lambda _: next(positions))
    del graph.node[kept:]


def _write(node: NodeProto, new: NewNode) -> None:
    node.op_type = new.op
    node.input.extend(new.inputs or ())
    _add_attributes(node, new.attributes)


def _replace(node: NodeProto, edit: Edit) -> None:
    new = edit.replacement
    node.op_type = new.op
    if new.inputs is not None and tuple(node.input) != new.inputs:
        del node.input[:]
        node.input.extend(new.inputs)
    if node.attribute:
        del node.attribute[:]
    _add_attributes(node, new.attributes)
    if edit.provenance or (edit.provenance is not None and node.metadata_props):
        _set_provenance(node, edit.provenance)


def _add_attributes(node: NodeProto, attributes: Sequence[tuple[str, AttributeValue] | AttributeProto]) -> None:
    for attribute in attributes:
        if isinstance(attribute, AttributeProto):
            node.attribute.append(attribute)
        elif isinstance(attribute[1], float):
            node.attribute.add(name=attribute[0], f=attribute[1], type=AttributeProto.FLOAT)
        else:
            node.attribute.append(helper.make_attribute(*attribute))


def _set_provenance(node: NodeProto, text: str) -> None:
    stated = [entry for entry in node.metadata_props if entry.key == KEY]
    for entry in stated:
        if text:
            entry.value = text
        else:
            node.metadata_props.remove(entry)
    if text and not stated:
        node.metadata_props.add(key=KEY, value=text)


def _add_constant_node(graph: GraphProto | FunctionProto, constant: NewConstant) -> None:
    node = graph.node.add(op_type="Constant", output=[constant.name], name=constant.name)
    if constant.reference:
        node.attribute.add(name="value_float", type=AttributeProto.FLOAT, ref_attr_name=constant.reference)
    else:
        tensor = numpy_helper.from_array(constant.value, constant.name)
        node.attribute.append(helper.make_attribute("value", tensor))


def _declare_types(scope: Scope, edit: Edit) -> None:
    """Give new values the type that the model states for the site's output, where it states one."""
    output = scope.nodes[edit.root].output[0]
    declared = scope.declared.get(output)
    if declared is None:
        return
    for new in edit.new:
        entry = scope.graph.value_info.add(name=new.outputs[0])
        entry.type.CopyFrom(declared)
        if new.makes == "truth":
            entry.type.tensor_type.elem_type = TensorProto.BOOL
        elif new.makes == "parameter":
            entry.type.tensor_type.ClearField("shape")


def _keep(messages: Any, kept: list[bool]) -> None:
    """Delete the messages that are not kept, without copying the others."""
    if all(kept):
        return
    flags = iter(kept)
    messages.sort(key=lambda _: not next(flags))
    del messages[sum(kept) :]
