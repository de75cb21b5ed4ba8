"""A plan says what will change; `apply` changes it. The only code that writes to a ModelProto.

    Plan(edits, skips, constants)  --apply-->  the same ModelProto, edited in place

An edit replaces the nodes of one site. The node that computes the site's output stays where it is and keeps its name,
output, doc string and metadata; only its op, inputs and attributes change. New nodes stand directly before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from onnxact.model.provenance import KEY
from onnxact.model.scope import Scope
from onnxact.model.view import View

AttributeValue = float | int | str
Attribute = tuple[str, AttributeValue] | AttributeProto
Makes = Literal["value", "truth", "parameter", "float"]


class NewNode(NamedTuple):
    """A node to be written; attributes are (name, value) or, copied as they are, AttributeProtos.

    `inputs` is None for a replaced node that keeps its inputs.
    """

    op: str
    inputs: tuple[str, ...] | None
    output: str
    attributes: Sequence[Attribute]
    makes: Makes


class BodyNode(NamedTuple):
    """A node before its values have names: `inputs` are positions among the names of an edit; None: as they were."""

    op: str
    inputs: tuple[int, ...] | None
    attributes: Sequence[Attribute] = ()
    makes: Makes = "value"
    """What its output is: a value with the type of the site's output, a truth value or a float32 number of that shape,
    or something made from parameters alone, with that element type and a shape of its own."""
    domain: str = ""


@dataclass(frozen=True, eq=False)
class Body:
    """Nodes that all like edits write: the last in place of the site's root, the others before it.

    The outputs of those others are the names from position `first` on, in order. Max(x, 0.2 x), names (0.2, x, y_mul):

        Body((BodyNode("Mul", (0, 1)), BodyNode("Max", (1, 2))), first=2)
    """

    nodes: tuple[BodyNode, ...]
    first: int
    from_elsewhere: bool = False
    """Whether the root's op is of another domain than ONNX's, and the nodes are ONNX's."""

    @cached_property
    def new(self) -> tuple[BodyNode, ...]:
        """What stands before the site's root."""
        return self.nodes[:-1]

    @cached_property
    def last(self) -> BodyNode:
        """What the site's root becomes."""
        return self.nodes[-1]

    @cached_property
    def patterns(self) -> tuple[NodeProto, ...]:
        """The op and the attributes of each node, to be merged into the nodes of every edit."""
        return tuple(map(_pattern, self.nodes))


class NewConstant(NamedTuple):
    """A constant to be written: an initializer, or a Constant node standing before the node at index `before`.

    `reference` is the attribute of the enclosing local function whose value it takes, instead of a value of its own.
    """

    scope: str
    name: str
    value: NDArray[Any]
    before: int | None = None
    reference: str = ""


class Restored(NamedTuple):
    """A node that stood there before and is put back, at `position` if everything else is as it was then."""

    node: NodeProto
    position: int


class Edit(NamedTuple):
    """The replacement of a site's nodes; indices count the nodes of the scope before anything is applied.

    `names`: of the values that the body reads and of those that its new nodes make, which are named like them.
    Sites whose roots become the same node, and keep their inputs, share an edit: then there are several `roots`.
    """

    scope: str
    roots: Sequence[int]
    body: Body
    names: Sequence[str] = ()
    removed: tuple[int, ...] = ()
    dead_constants: tuple[str, ...] = ()
    provenance: str | None = None
    keeps_types: bool = False
    """Whether the value_info of removed nodes stays, for the day when they are put back."""
    declared: TypeProto | None = None
    """The type of the site's output, for new values, where the model does not state it."""
    restored: tuple[Restored, ...] = ()
    root_position: int = -1
    """Where the root stood when the restored nodes did."""

    @property
    def new(self) -> tuple[NewNode, ...]:
        """The nodes that stand before the replaced one."""
        return tuple(map(self._named, self.body.new, self.names[self.body.first :]))

    @property
    def replacement(self) -> NewNode:
        """What the replaced node becomes; its output and name stay."""
        return self._named(self.body.last, "")

    def _named(self, node: BodyNode, output: str) -> NewNode:
        inputs = None if node.inputs is None else tuple(self.names[position] for position in node.inputs)
        return NewNode(node.op, inputs, output, node.attributes, node.makes)


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

    @property
    def roots(self) -> int:
        """How many sites are replaced."""
        return sum(len(edit.roots) for edit in self.edits)


def apply(view: View, plan: Plan) -> None:
    """Carry out `plan` on the view's model, for which it was made. Nothing that no edit names changes a byte.

    The view no longer describes the model afterwards.
    """
    edits: dict[str, list[Edit]] = defaultdict(list)
    for edit in plan.edits:
        edits[edit.scope].append(edit)
    constants: dict[str, list[NewConstant]] = {}
    for constant in plan.constants:
        constants.setdefault(constant.scope, []).append(constant)
    # Inner scopes first: sorting the nodes of an outer one moves the messages that hold them.
    for path in sorted(edits, key=lambda path: -path.count("/")):
        _apply_to_scope(view.by_path[path], edits[path], constants.get(path, []))


def _apply_to_scope(scope: Scope, edits: list[Edit], constants: list[NewConstant]) -> None:
    graph = scope.graph
    nodes, count = scope.nodes, len(scope.nodes)
    order = [2 * index for index in range(count)]
    for constant in constants:
        if constant.before is None and isinstance(graph, GraphProto):
            graph.initializer.append(numpy_helper.from_array(constant.value, constant.name))
        else:
            _add_constant_node(graph, constant)
            order.append(2 * (constant.before or 0) - 1)
    for edit in edits:
        if new := edit.body.new:
            _write(graph, edit)
            order.extend([2 * edit.roots[0] - 1] * len(new))
            _declare_types(scope, edit)
        _replace([nodes[root] for root in edit.roots], edit)
    _remove(scope, edits, order)
    if any(edit.restored for edit in edits):
        order = _restore(graph, edits, order)
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
    typed = {index for edit in trees if edit.keeps_types for index in edit.removed}
    for index in indices:
        order[index] = GONE
        names.update(scope.nodes[index].output if index not in typed else ())
    _keep(scope.graph.value_info, [entry.name not in names for entry in scope.graph.value_info])
    if isinstance(scope.graph, GraphProto):
        _keep(scope.graph.initializer, [tensor.name not in names for tensor in scope.graph.initializer])


def _restore(graph: GraphProto | FunctionProto, edits: list[Edit], order: list[int]) -> list[int]:
    """Append the nodes that are put back and return the order with them: where they stood, if their roots do again."""
    before_root, as_it_was = list(order), {}
    for edit in edits:
        for node, position in edit.restored:
            as_it_was[len(before_root)] = position
            before_root.append(2 * edit.roots[0] - 1)
            graph.node.append(node)
    others = sorted((i for i, place in enumerate(order) if place < GONE), key=order.__getitem__)
    taken, following = {position: index for index, position in as_it_was.items()}, iter(others)
    ranks = [GONE] * len(before_root)
    for position in range(len(others) + len(as_it_was)):
        index = taken.get(position, -1)
        index = index if index >= 0 else next(following, -1)
        if index < 0:
            return before_root
        ranks[index] = position
    whole = len(taken) == len(as_it_was) and next(following, -1) < 0
    in_place = all(ranks[edit.roots[0]] == edit.root_position for edit in edits if edit.restored)
    return ranks if whole and in_place else before_root


def _arrange(graph: GraphProto | FunctionProto, order: list[int], kept: int) -> None:
    """Sort the appended nodes into their places and drop the removed ones; no message is copied."""
    if any(a > b for a, b in pairwise(order)):
        positions = iter(order)
        graph.node.sort(key=lambda _: next(positions))
    del graph.node[kept:]


def _write(graph: GraphProto | FunctionProto, edit: Edit) -> None:
    """Append the new nodes. Setting field by field, string by string, is what protobuf does fastest."""
    names, nodes, body = edit.names, graph.node, edit.body
    for (op, inputs, attributes, _, _), pattern, name in zip(
        body.new, body.patterns, names[body.first :], strict=False
    ):
        node = nodes.add()
        if attributes:
            node.MergeFrom(pattern)
        else:
            node.op_type = op
        node.name = name
        node.output.append(name)
        operands = node.input
        for position in inputs or ():
            operands.append(names[position])


def _replace(nodes: Iterable[NodeProto], edit: Edit) -> None:
    inputs, pattern, provenance = edit.body.last.inputs, edit.body.patterns[-1], edit.provenance
    for node in nodes:
        if inputs is not None:
            operands = node.input
            del operands[:]
            for position in inputs:
                operands.append(edit.names[position])
            if edit.body.from_elsewhere:
                node.ClearField("domain")
        node.ClearField("attribute")
        node.MergeFrom(pattern)
        if provenance is not None and (provenance or node.metadata_props):
            _set_provenance(node, provenance)


def _pattern(node: BodyNode) -> NodeProto:
    pattern = NodeProto(op_type=node.op, domain=node.domain) if node.domain else NodeProto(op_type=node.op)
    for attribute in node.attributes:
        if isinstance(attribute, AttributeProto):
            pattern.attribute.append(attribute)
        elif isinstance(attribute[1], float):
            pattern.attribute.add(name=attribute[0], f=attribute[1], type=AttributeProto.FLOAT)
        else:
            pattern.attribute.append(helper.make_attribute(*attribute))
    return pattern


def _set_provenance(node: NodeProto, text: str) -> None:
    stated = [entry for entry in entries if entry.key == KEY] if (entries := node.metadata_props) else ()
    for entry in stated:
        if text:
            entry.value = text
        else:
            entries.remove(entry)
    if text and not stated:
        entry = entries.add()
        entry.key = KEY
        entry.value = text


def _add_constant_node(graph: GraphProto | FunctionProto, constant: NewConstant) -> None:
    node = graph.node.add(op_type="Constant", output=[constant.name], name=constant.name)
    if constant.reference:
        node.attribute.add(name="value_float", type=AttributeProto.FLOAT, ref_attr_name=constant.reference)
    else:
        tensor = numpy_helper.from_array(constant.value, constant.name)
        node.attribute.append(helper.make_attribute("value", tensor))


def _declare_types(scope: Scope, edit: Edit) -> None:
    """Give new values the type that the model states for the site's output, where it states one."""
    output = scope.nodes[edit.roots[0]].output[0]
    declared = scope.declared.get(output) or edit.declared
    if declared is None:
        return
    for new in edit.new:
        entry = scope.graph.value_info.add(name=new.output)
        entry.type.CopyFrom(declared)
        if new.makes == "truth":
            entry.type.tensor_type.elem_type = TensorProto.BOOL
        elif new.makes == "float":
            entry.type.tensor_type.elem_type = TensorProto.FLOAT
        elif new.makes == "parameter":
            entry.type.tensor_type.ClearField("shape")


def _keep(messages: Any, kept: list[bool]) -> None:
    """Delete the messages that are not kept, without copying the others."""
    if all(kept):
        return
    flags = iter(kept)
    messages.sort(key=lambda _: not next(flags))
    del messages[sum(kept) :]
