"""A model with markers in bodies -> the same with the marked values as values of the main graph.

    If (c) { then: y = Relu(x) [Site(x, y)] }   ->   the If gives x and y too, in a sequence that is empty
                                                     where the branch was not taken

Values are gathered in sequences, which If, Loop and Identity take from opset 14: a body that runs often, or not at all,
or with other shapes each time, adds as many tensors as it computed. In a Scan, which takes none, and below opset 14,
they come out as tensors: empty from a branch not taken, stacked from iterations, where all have one shape.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from onnxact.check.graph import subgraphs
from onnxact.check.placing import MARKER, Placed
from onnxact.check.site_evidence import SiteProbe
from onnxact.check.subject import Subject

_SEQUENCES_FROM = 14

Slot = tuple[int, int]
"""The number of a marker in the order of the nodes, and of a value among those that it marks."""


@dataclass(frozen=True)
class Lifted:
    """The model to be run, and for every site the main-graph values that hold those of each computation of it.

    A name stands for a tensor or a sequence of tensors. `problems`: why a site's values cannot be brought out.
    """

    subject: Subject
    names: Mapping[SiteProbe, tuple[tuple[str, ...], ...]]
    problems: Mapping[SiteProbe, str] = field(default_factory=dict)


def lift(placed: Placed, sites: Collection[SiteProbe], elem_types: Mapping[SiteProbe, int]) -> Lifted:
    """Bring the values of these sites to the main graph, of a copy where they are not all there already.

    elem_types: TensorProto.DataType of the values of each site.
    """
    wanted = {probe: items for probe, items in placed.instances.items() if probe in sites}
    direct = {probe: tuple(item.names for item in items) for probe, items in wanted.items()}
    if placed.marked is None or all(item.in_main_graph for items in wanted.values() for item in items):
        return Lifted(_inlined(placed), direct)
    model = ModelProto()
    model.CopyFrom(placed.marked)
    lifter = _Lifter(model, placed, sites, elem_types)
    lifter.run()
    names = {**direct, **{probe: tuple(lifter.names[probe]) for probe in placed.numbered if probe in wanted}}
    problems = {probe: problem for probe, problem in lifter.problems.items() if probe in wanted}
    found = {probe: items for probe, items in names.items() if probe not in problems}
    return Lifted(_finished(model, placed), found, problems)


def _inlined(placed: Placed) -> Subject:
    """The model itself, or with its functions inlined where a site is in one."""
    if placed.marked is None or not placed.subject.model.functions:
        return placed.subject
    model = ModelProto()
    model.CopyFrom(placed.marked)
    _drop_markers(model.graph)
    return _finished(model, placed)


def _finished(model: ModelProto, placed: Placed) -> Subject:
    """Give the copy the initializers of the model again, in place of inputs."""
    original = placed.subject.model.graph
    del model.graph.input[len(original.input) :]
    model.graph.initializer.extend(original.initializer)
    model.graph.sparse_initializer.extend(original.sparse_initializer)
    return replace(placed.subject, model=model, path=None)


def _drop_markers(graph: GraphProto) -> None:
    for node in graph.node:
        for body in subgraphs(node):
            _drop_markers(body)
    _rebuild(graph, [node for node in graph.node if node.domain != MARKER])


def _rebuild(graph: GraphProto, nodes: list[NodeProto]) -> None:
    if len(nodes) != len(graph.node) or any(new is not old for new, old in zip(nodes, graph.node, strict=False)):
        del graph.node[:]
        graph.node.extend(nodes)


class _Lifter:
    """Edits one copy of a model. Names begin with the markers' domain, which no value of a model does."""

    def __init__(
        self, model: ModelProto, placed: Placed, sites: Collection[SiteProbe], elem_types: Mapping[SiteProbe, int]
    ) -> None:
        self.model = model
        self.sites = placed.numbered
        self.wanted = sites
        self.elem_types = elem_types
        self.names: dict[SiteProbe, list[tuple[str, ...]]] = {probe: [] for probe in placed.numbered}
        self.problems: dict[SiteProbe, str] = {}
        self.markers: list[NodeProto] = []
        self.made = 0

    def run(self) -> None:
        """Bring everything out, and note under which names."""
        self._number(self.model.graph)
        graph = self.model.graph
        bodies = {slot for node in graph.node for slot in self._slots_below(node)}
        imports = [entry.version for entry in self.model.opset_import if entry.domain in {"", "ai.onnx"}]
        if max(imports, default=1) >= _SEQUENCES_FROM:
            empty = {slot: self._fresh() for slot in sorted(bodies)}
            found = self._gather(graph, empty)
            first = [
                helper.make_node("SequenceEmpty", [], [empty[s]], dtype=self._elem_type(s)) for s in sorted(bodies)
            ]
            _rebuild(graph, [*first, *graph.node])
        else:
            found = self._tensors(graph)
        for number, node in enumerate(self.markers):
            names = tuple(found.get((number, position), name) for position, name in enumerate(node.input))
            self.names[self._site(number)].append(names)

    def _number(self, graph: GraphProto) -> None:
        """Write into every marker its number in the order of the nodes, and drop those that are not wanted."""
        dropped = False
        for node in graph.node:
            if node.domain == MARKER and self.sites[node.attribute[0].i] in self.wanted:
                node.attribute.append(helper.make_attribute("number", len(self.markers)))
                copied = NodeProto()
                copied.CopyFrom(node)
                self.markers.append(copied)
            elif node.domain == MARKER:
                dropped = True
            for body in subgraphs(node):
                self._number(body)
        if dropped:
            _rebuild(graph, [node for node in graph.node if node.domain != MARKER or len(node.attribute) > 1])

    def _site(self, number: int) -> SiteProbe:
        return self.sites[self.markers[number].attribute[0].i]

    def _elem_type(self, slot: Slot) -> int:
        return self.elem_types.get(self._site(slot[0]), TensorProto.FLOAT)

    def _fresh(self) -> str:
        self.made += 1
        return f"{MARKER}/{self.made}"

    def _slots(self, graph: GraphProto) -> Iterator[Slot]:
        for node in graph.node:
            if node.domain == MARKER:
                yield from ((node.attribute[1].i, position) for position in range(len(node.input)))
            yield from self._slots_below(node)

    def _slots_below(self, node: NodeProto) -> Iterator[Slot]:
        for body in subgraphs(node):
            yield from self._slots(body)

    def _refuse(self, node: NodeProto, slots: list[Slot]) -> None:
        reason = f"values inside a body of {node.op_type} cannot be brought out"
        self.problems.update({self._site(number): reason for number, _ in slots})

    # As sequences

    def _gather(self, graph: GraphProto, carried: Mapping[Slot, str]) -> dict[Slot, str]:
        """Append what the markers of this graph and those below it mark; return the names of the grown sequences."""
        current, nodes = dict(carried), []
        for node in graph.node:
            if node.domain == MARKER:
                for slot, name in _marked(node):
                    if slot in current:
                        grown = self._fresh()
                        nodes.append(helper.make_node("SequenceInsert", [current[slot], name], [grown]))
                        current[slot] = grown
                continue
            nodes.append(node)
            if slots := sorted(self._slots_below(node)):
                nodes.extend(self._through(node, slots, current))
        _rebuild(graph, nodes)
        return current

    def _through(self, node: NodeProto, slots: list[Slot], current: dict[Slot, str]) -> list[NodeProto]:
        """Let the sequences pass through a node with bodies; return the nodes that have to follow it."""
        if node.op_type == "If" and not node.domain:
            self._through_if(node, slots, current)
        elif node.op_type == "Loop" and not node.domain:
            self._through_loop(node, slots, current)
        elif node.op_type == "Scan" and not node.domain:
            return self._behind_scan(node, current)
        else:
            self._refuse(node, slots)
            for body in subgraphs(node):
                _drop_markers(body)
        return []

    def _through_if(self, node: NodeProto, slots: list[Slot], current: dict[Slot, str]) -> None:
        for branch in subgraphs(node):
            inner = self._gather(branch, {slot: current[slot] for slot in slots})
            for slot in slots:
                branch.output.append(self._sequence(slot, self._own(branch, inner[slot], current[slot])))
        for slot in slots:
            current[slot] = self._fresh()
            node.output.append(current[slot])

    def _through_loop(self, node: NodeProto, slots: list[Slot], current: dict[Slot, str]) -> None:
        (body,) = subgraphs(node)
        entering = {slot: self._fresh() for slot in slots}
        inner = self._gather(body, entering)
        count = len(body.input) - 2
        node.input.extend([""] * (2 - len(node.input)))
        node.output.extend([""] * (count - len(node.output)))
        for position, slot in enumerate(slots):
            body.input.append(self._sequence(slot, entering[slot]))
            leaving = self._own(body, inner[slot], entering[slot])
            body.output.insert(1 + count + position, self._sequence(slot, leaving))
            node.input.append(current[slot])
            current[slot] = self._fresh()
            node.output.insert(count + position, current[slot])

    def _behind_scan(self, node: NodeProto, current: dict[Slot, str]) -> list[NodeProto]:
        following = []
        for slot, name in self._out_of(node).items():
            grown = self._fresh()
            following.append(helper.make_node("SequenceInsert", [current[slot], name], [grown]))
            current[slot] = grown
        return following

    def _own(self, body: GraphProto, name: str, outer: str) -> str:
        """The name; of a value that is not the body's own a copy, since only own values can leave a body."""
        if name != outer:
            return name
        copied = self._fresh()
        body.node.append(helper.make_node("Identity", [name], [copied]))
        return copied

    def _sequence(self, slot: Slot, name: str) -> ValueInfoProto:
        tensor = helper.make_tensor_type_proto(self._elem_type(slot), None)
        return helper.make_value_info(name, helper.make_sequence_type_proto(tensor))

    # As tensors

    def _tensors(self, graph: GraphProto) -> dict[Slot, str]:
        """Copy what the markers of this graph and those below it mark; return the names of the copies."""
        found: dict[Slot, str] = {}
        nodes = []
        for node in graph.node:
            if node.domain == MARKER:
                for slot, name in _marked(node):
                    found[slot] = self._fresh()
                    nodes.append(helper.make_node("Identity", [name], [found[slot]]))
                continue
            nodes.append(node)
            if any(True for _ in self._slots_below(node)):
                found.update(self._out_of(node))
        _rebuild(graph, nodes)
        return found

    def _out_of(self, node: NodeProto) -> dict[Slot, str]:
        """Bring what is marked in the bodies of a node out of it as tensors; return the names of its new outputs."""
        slots = sorted(self._slots_below(node))
        if node.op_type not in {"If", "Loop", "Scan"} or node.domain:
            self._refuse(node, slots)
            for body in subgraphs(node):
                _drop_markers(body)
            return {}
        for body in subgraphs(node):
            inner = self._tensors(body)
            for slot in slots:
                name = inner[slot] if slot in inner else self._empty(body, slot)
                body.output.append(helper.make_tensor_value_info(name, self._elem_type(slot), None))
        leaving = {slot: self._fresh() for slot in slots}
        node.output.extend(leaving.values())
        for attribute in node.attribute:
            if attribute.name in {"scan_output_axes", "scan_output_directions"}:
                attribute.ints.extend([0] * len(slots))
        return leaving

    def _empty(self, body: GraphProto, slot: Slot) -> str:
        name = self._fresh()
        empty = helper.make_tensor(name, self._elem_type(slot), [0], [])
        body.node.append(helper.make_node("Constant", [], [name], value=empty))
        return name


def _marked(node: NodeProto) -> Iterator[tuple[Slot, str]]:
    return (((node.attribute[1].i, position), name) for position, name in enumerate(node.input))
