"""A plan says what will change; `apply` changes it. The only code that writes to a ModelProto.

    Plan(edits, skips, constants)  --apply-->  the same ModelProto, edited in place

An edit replaces the nodes of one site. The node that computes the site's output stays where it is and keeps its name,
output, doc string and metadata; only its op, inputs and attributes change. New nodes stand directly before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """Nodes that all like sites get: the last in place of the site's root, the others before it.

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
        """The op and the attributes of each node, to be merged into the nodes of every site."""
        return tuple(map(_pattern, self.nodes))


class NewConstant(NamedTuple):
    """A constant to be written: an initializer, or a Constant node standing before the node at index `before`.

    `reference` is the attribute of the enclosing local function whose value it takes, instead of a value of its own.
    `declared`: the output of a Constant node gets a value_info.
    """

    scope: str
    name: str
    value: NDArray[Any]
    before: int | None = None
    reference: str = ""
    declared: bool = False


class Restored(NamedTuple):
    """A node that stood there before and is put back, at `position` if everything else is as it was then."""

    node: NodeProto
    position: int


class Edit(NamedTuple):
    """The replacement of the nodes of like sites; indices count the nodes of the scope before anything is applied.

    `roots`: the node of each site that makes its output. `names`: for each site, those of the values that the body
    reads and of those that its new nodes make, which are named like them; none where the roots keep their inputs.
    A site that needs anything of its own below has an edit of its own.
    """

    scope: str
    roots: Sequence[int]
    body: Body
    names: Sequence[Sequence[str]] = ()
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

    def nodes(self, number: int) -> tuple[NewNode, ...]:
        """Return what the site of this number gets: new nodes, and last what its root becomes (without an output)."""
        names = self.names[number] if self.names else ()
        outputs = (*names[self.body.first :], "")
        return tuple(_named(node, names, output) for node, output in zip(self.body.nodes, outputs, strict=True))


def _named(node: BodyNode, names: Sequence[str], output: str) -> NewNode:
    inputs = None if node.inputs is None else tuple(names[position] for position in node.inputs)
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
    renamed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Scope -> old name -> new name, of values inside it that are not what they were before."""

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
    for path, names in plan.renamed.items():
        _rename(view.by_path[path].graph, names)


def _rename(graph: GraphProto | FunctionProto, names: Mapping[str, str]) -> None:
    """Give values of a scope other names, where its nodes make and read them."""
    for node in graph.node:
        for listed in (node.input, node.output):
            if not names.keys().isdisjoint(listed):
                listed[:] = [names.get(name, name) for name in listed]
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)


def _apply_to_scope(scope: Scope, edits: list[Edit], constants: list[NewConstant]) -> None:
    graph, nodes = scope.graph, scope.nodes
    places: list[int] = []
    for constant in constants:
        if constant.before is None and isinstance(graph, GraphProto):
            graph.initializer.append(numpy_helper.from_array(constant.value, constant.name))
        else:
            _add_constant_node(graph, constant)
            places.append(2 * (constant.before or 0) - 1)
    for edit in edits:
        if count := len(edit.body.new):
            _write(graph, edit)
            places.extend([2 * root - 1 for root in edit.roots for _ in range(count)])
            _declare_types(scope, edit)
        _replace(nodes, edit)
    if places or any(edit.removed or edit.dead_constants or edit.restored for edit in edits):
        _tidy(scope, edits, [*range(0, 2 * len(nodes), 2), *places])


def _tidy(scope: Scope, edits: list[Edit], order: list[int]) -> None:
    """Remove, put back and sort; `order` is where each node, those appended included, is to stand."""
    _remove(scope, edits, order)
    if any(edit.restored for edit in edits):
        order = _restore(scope.graph, edits, order)
    _arrange(scope.graph, order, kept=sum(position < GONE for position in order))


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
    add, body = graph.node.add, edit.body
    steps = [
        (node.op, pattern if node.attributes else None, body.first + number, node.inputs or ())
        for number, (node, pattern) in enumerate(zip(body.new, body.patterns, strict=False))
    ]
    for names in edit.names:
        for op, pattern, output, inputs in steps:
            node, name = add(), names[output]
            if pattern is None:
                node.op_type = op
            else:
                node.MergeFrom(pattern)
            node.name = name
            node.output.append(name)
            operands = node.input
            for position in inputs:
                operands.append(names[position])


def _replace(nodes: Sequence[NodeProto], edit: Edit) -> None:
    """Make each root what the last node of the body is."""
    inputs, text = edit.body.last.inputs, edit.provenance
    pattern, recorded = edit.body.patterns[-1], NodeProto()
    recorded.CopyFrom(pattern)
    if text:
        recorded.metadata_props.add(key=KEY, value=text)
    for number, root in enumerate(edit.roots):
        node = nodes[root]
        if inputs is not None:
            operands, names = node.input, edit.names[number]
            del operands[:]
            for position in inputs:
                operands.append(names[position])
            if edit.body.from_elsewhere:
                node.ClearField("domain")
        node.ClearField("attribute")
        if text is None or not node.metadata_props:
            node.MergeFrom(recorded)
        else:
            node.MergeFrom(pattern)
            _set_provenance(node, text)


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
    """Replace a node's record, or take it away."""
    entries = node.metadata_props
    for entry in [entry for entry in entries if entry.key == KEY]:
        entries.remove(entry)
    if text:
        entries.add(key=KEY, value=text)


def _add_constant_node(graph: GraphProto | FunctionProto, constant: NewConstant) -> None:
    node = graph.node.add(op_type="Constant", output=[constant.name], name=constant.name)
    if constant.reference:
        node.attribute.add(name="value_float", type=AttributeProto.FLOAT, ref_attr_name=constant.reference)
    else:
        tensor = numpy_helper.from_array(constant.value, constant.name)
        node.attribute.append(helper.make_attribute("value", tensor))
        if constant.declared:
            graph.value_info.append(helper.make_tensor_value_info(constant.name, tensor.data_type, tensor.dims))


def _declare_types(scope: Scope, edit: Edit) -> None:
    """Give new values the type that the model states for the site's output, where it states one."""
    for number, root in enumerate(edit.roots):
        declared = scope.declared.get(scope.nodes[root].output[0]) or edit.declared
        if declared is not None:
            for new in edit.nodes(number)[:-1]:
                _declare(scope.graph.value_info.add(name=new.output).type, declared, new.makes)


def _declare(new: TypeProto, declared: TypeProto, makes: Makes) -> None:
    new.CopyFrom(declared)
    if makes == "truth":
        new.tensor_type.elem_type = TensorProto.BOOL
    elif makes == "float":
        new.tensor_type.elem_type = TensorProto.FLOAT
    elif makes == "parameter":
        new.tensor_type.ClearField("shape")


def _keep(messages: Any, kept: list[bool]) -> None:
    """Delete the messages that are not kept, without copying the others."""
    if all(kept):
        return
    flags = iter(kept)
    messages.sort(key=lambda _: not next(flags))
    del messages[sum(kept) :]
