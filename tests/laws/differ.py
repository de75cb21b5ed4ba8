"""What differs between two models, message by message; shares no code with onnxact.

differences(before, after, sites) is empty when everything that no site names has kept its bytes. A site names: the op
type, inputs and attributes of its root, its domain where that is not ONNX's, and its "onnxact" entry; its other nodes,
which may go; constants that nothing reads any more; value_info of values that are gone; and new nodes, constants and
value_info, all under new names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

Graph = GraphProto | FunctionProto


class Named(NamedTuple):
    """What the sites of one scope name: the roots, and all nodes, by their index before the edit."""

    roots: frozenset[int] = frozenset()
    nodes: frozenset[int] = frozenset()


NOTHING = Named()


def differences(before: ModelProto, after: ModelProto, sites: Mapping[str, Named]) -> list[str]:
    """Return one line for each difference that the sites do not name; `sites` is keyed by scope path."""
    return list(_Differ(before, after, sites).model())


class _Differ:
    def __init__(self, before: ModelProto, after: ModelProto, sites: Mapping[str, Named]) -> None:
        self.before = before
        self.after = after
        self.sites = sites
        self.old_names = frozenset(all_names(before))
        self.read_after = frozenset(all_reads(after))
        self.constants = frozenset(_constants(before))
        self.seen: set[str] = set()

    def model(self) -> Iterator[str]:
        yield from self._rest("model", self.before, self.after, ("graph", "functions"))
        yield from self._graph("", self.before.graph, self.after.graph)
        if len(self.before.functions) != len(self.after.functions):
            yield "model: another number of functions"
            return
        for old, new in zip(self.before.functions, self.after.functions, strict=True):
            path = f"{old.domain}:{old.name}" + (f":{old.overload}" if old.overload else "")
            yield from self._graph(path, old, new)
        unseen = set(self.sites) - self.seen
        if unseen:
            yield f"sites in scopes that the model does not have, or has in training_info: {sorted(unseen)}"

    def _rest(self, where: str, old: Any, new: Any, but: Collection[str]) -> Iterator[str]:
        """Compare the bytes of two messages without some of their fields."""
        if _bytes(_without(old, but)) != _bytes(_without(new, but)):
            yield f"{where}: differs outside of {', '.join(but) or 'nothing'}"

    def _graph(self, path: str, old: Graph, new: Graph) -> Iterator[str]:
        where = path or "main graph"
        lists = ["node", "value_info"] + (["initializer"] if isinstance(old, GraphProto) else [])
        yield from self._rest(where, old, new, lists)
        yield from self._nodes(path, old, new)
        for field in lists[1:]:
            yield from self._named_messages(f"{where}: {field}", getattr(old, field), getattr(new, field))

    def _named_messages(self, where: str, old: Any, new: Any) -> Iterator[str]:
        """Kept ones have their order and bytes, gone ones are read no more, new ones have new names and are last."""
        kept = [m for m in new if m.name in self.old_names]
        remaining = iter(kept)
        following = next(remaining, None)
        for message in old:
            if following is not None and _bytes(message) == _bytes(following):
                following = next(remaining, None)
            elif message.name in self.read_after:
                yield f"{where} {message.name!r} is gone or changed, and still read"
            elif not self.sites:
                yield f"{where} {message.name!r} is gone without an edit"
        if following is not None:
            yield f"{where} {following.name!r} is changed, moved, or new under an old name"
        if list(new[: len(kept)]) != kept:
            yield f"{where}: new ones stand before old ones"

    def _nodes(self, path: str, old: Graph, new: Graph) -> Iterator[str]:
        where = path or "main graph"
        if path in self.seen:
            yield f"{where}: two scopes have this path"
        self.seen.add(path)
        named = self.sites.get(path, NOTHING)
        kept = [node for node in new.node if not self._is_new(node)]
        position = 0
        for index, node in enumerate(old.node):
            following = kept[position] if position < len(kept) else None
            if following is not None and list(node.output) == list(following.output):
                position += 1
                yield from self._node(path, index, node, following, named)
            elif index in named.roots:
                yield f"{where}: the root {node.name!r} #{index} is gone"
            elif index not in named.nodes and not self._is_dead_constant(node, named):
                yield f"{where}: node {node.name!r} #{index} ({node.op_type}) is gone"
        for node in kept[position:]:
            yield f"{where}: node {node.name!r} ({node.op_type}) moved, or is new under an old name"

    def _is_new(self, node: NodeProto) -> bool:
        return bool(node.output) and all(name and name not in self.old_names for name in node.output)

    def _is_dead_constant(self, node: NodeProto, named: Named) -> bool:
        alike = node.op_type in ("Constant", "Cast", "CastLike", "Identity", "Expand", "ConstantOfShape")
        constant = alike or (node.input and self.constants.issuperset(node.input))
        return bool(named.roots) and bool(constant) and not any(name in self.read_after for name in node.output)

    def _node(self, path: str, index: int, old: NodeProto, new: NodeProto, named: Named) -> Iterator[str]:
        where = f"{path or 'main graph'}: node {old.name!r} #{index} ({old.op_type})"
        if index in named.roots:
            first, second = _without_record(old), _without_record(new)
            elsewhere = ("domain",) if old.domain not in ("", "ai.onnx") else ()
            yield from self._rest(where, first, second, ("op_type", "input", "attribute", *elsewhere))
            return
        if index in named.nodes:
            yield f"{where} belongs to a site and is still there"
        if not any(True for _ in subgraphs(old)):
            if _bytes(old) != _bytes(new):
                yield f"{where} changed, and no edit names it"
            return
        yield from self._rest(where, _without_graphs(old), _without_graphs(new), ())
        inside = zip(subgraphs(old), subgraphs(new), strict=True)
        for (name, first_graph), (_, second_graph) in inside:
            inner = f"{path}/{old.name or f'{old.op_type}#{index}'}.{name}"
            yield from self._graph(self._known_path(inner), first_graph, second_graph)

    def _known_path(self, inner: str) -> str:
        """Return the path, numbered where an earlier scope has the same one."""
        number, path = 1, inner
        while path in self.seen:
            number += 1
            path = f"{inner}#{number}"
        return path


def _without(message: Any, but: Collection[str]) -> Any:
    """Return a copy without some fields, which for weights are worth not copying at all."""
    copy = type(message)()
    for descriptor, value in message.ListFields():
        if descriptor.name in but:
            continue
        if descriptor.is_repeated:
            getattr(copy, descriptor.name).extend(value)
        elif descriptor.message_type is not None:
            getattr(copy, descriptor.name).CopyFrom(value)
        else:
            setattr(copy, descriptor.name, value)
    return copy


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _without_record(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    others = [entry for entry in node.metadata_props if entry.key != "onnxact"]
    del copy.metadata_props[:]
    copy.metadata_props.extend(others)
    return copy


def _without_graphs(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        attribute.ClearField("g")
        attribute.ClearField("graphs")
    return copy


def subgraphs(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """Yield (attribute name, graph) for every graph that a node holds."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}[{number}]", graph


def all_graphs(model: ModelProto) -> Iterator[Graph]:
    """Yield every graph and function of a model, training graphs too, outer ones first."""
    pending: list[Graph] = [model.graph, *model.functions]
    for training in model.training_info:
        pending += [training.initialization, training.algorithm]
    while pending:
        graph = pending.pop(0)
        yield graph
        pending += [inner for node in graph.node for _, inner in subgraphs(node)]


def all_names(model: ModelProto) -> Iterator[str]:
    """Yield every name of a value or node, wherever it is mentioned."""
    for graph in all_graphs(model):
        for node in graph.node:
            yield from (node.name, *node.input, *node.output)
        yield from (value.name for value in graph.value_info)
        yield from _interface(graph)
        if isinstance(graph, GraphProto):
            yield from (tensor.name for tensor in graph.initializer)
            yield from (tensor.values.name for tensor in graph.sparse_initializer)
            yield from _annotations(graph)


def all_reads(model: ModelProto) -> Iterator[str]:
    """Yield every name that something reads: nodes, outputs of graphs, annotations, training."""
    for graph in all_graphs(model):
        for node in graph.node:
            yield from node.input
        yield from (value if isinstance(value, str) else value.name for value in graph.output)
        if isinstance(graph, GraphProto):
            yield from _annotations(graph)
    for training in model.training_info:
        for binding in (*training.initialization_binding, *training.update_binding):
            yield from (binding.key, binding.value)


def _constants(model: ModelProto) -> set[str]:
    """Return every value that is worked out from constants alone, in models whose nodes are in order."""
    found: set[str] = set()
    for graph in all_graphs(model):
        if isinstance(graph, GraphProto):
            found.update({tensor.name for tensor in graph.initializer} - {value.name for value in graph.input})
        for node in graph.node:
            first = node.input[:1] if node.op_type in ("Cast", "CastLike") else node.input
            if node.op_type == "Constant" or (first and found.issuperset(first)):
                found.update(node.output)
    return found


def _interface(graph: Graph) -> Iterator[str]:
    if isinstance(graph, FunctionProto):
        yield from (*graph.input, *graph.output)
    else:
        yield from (value.name for value in (*graph.input, *graph.output))


def _annotations(graph: GraphProto) -> Iterator[str]:
    for annotation in graph.quantization_annotation:
        yield annotation.tensor_name
        yield from (entry.value for entry in annotation.quant_parameter_tensor_names)
