"""onnx-graphsurgeon graphs: looked at through their export, rewritten as graphs.

    Graph  --gs.export_onnx-->  ModelProto  ->  View  ->  Plan
    Graph, Plan  ->  a new Graph

The new graph is a copy like the one `Graph.copy` makes, made node by node with the plan carried out on the way; nothing
goes through ONNX and back. Nodes, tensors, subgraphs and functions are new objects; weights, attribute values and
lazily loaded constants are shared, the latter not loaded. Kept as well, where `Graph.copy` (0.6.1) loses them:
producer, functions of its own, the type of a sequence, where a constant's data lies, tensors of equal name apart.

onnx-graphsurgeon's nodes have no metadata_props, so a decomposed site carries no provenance: fusing it goes by
structure, and constants that a decomposition keeps for it (a Clip's bounds in Constant nodes) stay unread.
"""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import AttributeProto, ModelProto
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter
from onnx_graphsurgeon.logger import G_LOGGER

from onnxact.errors import ModelError
from onnxact.model.edit import Edit, Makes, NewConstant, NewNode, Plan
from onnxact.model.scope import Scope
from onnxact.model.view import View


class GraphSource:
    """An onnx_graphsurgeon.Graph. Constants that lie in files beside a model have no place here: they are not read."""

    path: Path | None = None
    folder: Path | None = None

    recorded = True

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self.proto = self.original()

    def original(self) -> ModelProto:
        """Return the graph's export."""
        return _exported(self._graph)

    def rewritten(self, view: View, plan: Plan) -> Any:
        """Return a copy of the graph with the plan carried out.

        Raises ModelError: the graph is not the one any more that the view shows.
        """
        return _Rewriting(view, plan).run(self._graph)


def _exported(graph: Any) -> ModelProto:
    """Return gs.export_onnx of the graph; that adds to the import_domains of what it exports, hence the stand-ins."""
    functions = [_replica(function, import_domains=_copied(function.import_domains)) for function in graph.functions]
    replica = _replica(graph, import_domains=_copied(graph.import_domains), _functions=functions)
    with G_LOGGER.suppress(severity=G_LOGGER.CRITICAL + 1):
        try:
            model = gs.export_onnx(replica, do_type_check=False)
        except Exception as error:
            raise ModelError(f"onnx-graphsurgeon cannot export this graph: {type(error).__name__}: {error}") from error
    assert isinstance(model, ModelProto)
    return model


def _replica(graph: Any, **changes: Any) -> Any:
    """Return a Graph or Function with the same fields but for `changes`. (Its __getattr__ defeats copy.copy.)"""
    replica = object.__new__(type(graph))
    vars(replica).update({**vars(graph), **changes})
    return replica


def _copied(items: Iterable[Any] | None) -> list[Any] | None:
    return None if items is None else list(items)


class _Tensors:
    """The new tensors of one scope, and of those around it: by the tensor each is a copy of, and by name."""

    def __init__(self, graph: Any, outer: _Tensors | None) -> None:
        self._copies: ChainMap[int, Any] = outer._copies.new_child() if outer else ChainMap()
        self._by_name: ChainMap[str, Any] = outer._by_name.new_child() if outer else ChainMap()
        for tensor in chain(graph.inputs, *(node.outputs for node in graph.nodes)):
            if id(tensor) not in self._copies.maps[0]:
                self._copy(tensor)
        for tensor in chain(graph.outputs, *(node.inputs for node in graph.nodes)):
            if id(tensor) not in self._copies:
                self._copy(tensor)

    def _copy(self, tensor: Any) -> None:
        copy = tensor.copy()
        vars(copy).update({name: value for name, value in vars(tensor).items() if name not in ("inputs", "outputs")})
        self._copies[id(tensor)] = copy
        self._by_name.maps[0].setdefault(tensor.name, copy)

    def add(self, tensor: Any) -> Any:
        """Make a tensor that the plan adds known by its name."""
        self._by_name[tensor.name] = tensor
        return tensor

    def of(self, tensors: Iterable[Any]) -> list[Any]:
        """Return the copies of tensors; what is left out is left out."""
        return [gs.Variable.empty() if tensor.is_empty() else self._copies[id(tensor)] for tensor in tensors]

    def named(self, names: Iterable[str]) -> list[Any]:
        """Return the tensors of these names."""
        return [self._by_name[name] if name else gs.Variable.empty() for name in names]


class _Rewriting:
    """A copy of one graph with one plan carried out; made once."""

    def __init__(self, view: View, plan: Plan) -> None:
        self._view = view
        self._edits: dict[str, list[Edit]] = {}
        self._constants: dict[str, list[NewConstant]] = {}
        self._functions: list[Any] = []
        for edit in plan.edits:
            self._edits.setdefault(edit.scope, []).append(edit)
        for constant in plan.constants:
            self._constants.setdefault(constant.scope, []).append(constant)

    def run(self, graph: Any) -> Any:
        """Return the copy. Its subgraphs and functions share its list of functions, as everywhere in graphsurgeon."""
        scopes = [scope for scope in self._view.scopes if scope.is_function]
        if len(scopes) != len(graph.functions):
            raise _changed("the graph", f"{len(graph.functions)} functions", str(len(scopes)))
        for function, scope in zip(graph.functions, scopes, strict=True):
            self._functions.append(self._graph(function, scope, None))
            self._functions[-1].attrs = function.attrs.copy()
        return self._graph(graph, self._view.main, None)

    def _graph(self, graph: Any, scope: Scope, outer: _Tensors | None) -> Any:
        tensors = _Tensors(graph, outer)
        return _replica(
            graph,
            nodes=list(self._nodes(graph, scope, tensors)),
            inputs=tensors.of(graph.inputs),
            outputs=tensors.of(graph.outputs),
            import_domains=_copied(graph.import_domains),
            _functions=self._functions,
        )

    def _nodes(self, graph: Any, scope: Scope, tensors: _Tensors) -> Iterator[Any]:
        first = _first_node(graph, scope)
        edits = self._edits.get(scope.path, ())
        replacing = {root: (edit, number) for edit in edits for number, root in enumerate(edit.roots)}
        removed = _removed(scope, edits)
        added = self._add_constants(scope, tensors, first)
        for index, node in enumerate(graph.nodes, first):
            yield from added.get(index, ())
            if index in replacing:
                edit, number = replacing[index]
                yield from _replacement(edit.nodes(number), node, graph, tensors)
            elif index not in removed:
                attributes = node.attrs.copy()
                attributes.update(self._subgraphs(node, index, scope, tensors))
                yield _node(node, node.op, attributes, tensors.of(node.inputs), tensors)

    def _subgraphs(self, node: Any, index: int, scope: Scope, tensors: _Tensors) -> Iterator[tuple[str, Any]]:
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                child = scope.children.get((index, name))
                if child is None:
                    raise _changed(_label(node), f"a subgraph {name!r}", "none")
                yield name, self._graph(value, child, tensors)

    def _add_constants(self, scope: Scope, tensors: _Tensors, first: int) -> dict[int, list[Any]]:
        """Add the plan's constants of a scope; return those that are Constant nodes, by the index they stand before."""
        nodes: dict[int, list[Any]] = {}
        for constant in self._constants.get(scope.path, ()):
            if constant.before is None:
                tensors.add(gs.Constant(constant.name, constant.value))
            else:
                nodes.setdefault(max(constant.before, first), []).append(_constant_node(constant, tensors))
        return nodes


def _first_node(graph: Any, scope: Scope) -> int:
    """Return the index in the scope of the graph's first node: a function's constants are exported as nodes before it.

    Raises ModelError where the scope's other nodes are not the graph's.
    """
    first = len(scope.nodes) - len(graph.nodes)
    if first < 0 or (first and not scope.is_function):
        raise _changed(graph.name, f"{len(graph.nodes)} nodes", str(len(scope.nodes)))
    for node, seen in zip(graph.nodes, scope.nodes[first:], strict=True):
        now = (node.op, [tensor.name for tensor in node.outputs])
        before = (seen.op_type, list(seen.output))
        if now != before:
            raise _changed(_label(node), f"{now[0]} -> {now[1]}", f"{before[0]} -> {before[1]}")
    return first


def _changed(where: str, now: str, before: str) -> ModelError:
    return ModelError(
        f"{where} has {now} and its export had {before}: the graph was changed after onnxact looked at it; "
        "hand it in once more"
    )


def _label(node: Any) -> str:
    return node.name or f"a node {node.op}"


def _removed(scope: Scope, edits: Iterable[Edit]) -> set[int]:
    """Return the nodes that go. A dead gs.Constant needs no removing: it is where it is read."""
    removed: set[int] = set()
    for edit in edits:
        removed.update(edit.removed)
        removed.update(scope.producers[name] for name in edit.dead_constants if name in scope.producers)
    return removed


def _replacement(nodes: Sequence[NewNode], root: Any, graph: Any, tensors: _Tensors) -> Iterator[Any]:
    output = tensors.of(root.outputs)[0]
    *added, last = nodes
    for new in added:
        inputs = tensors.named(new.inputs or ())
        made = tensors.add(_variable(new.output, output, new.makes))
        yield gs.Node(new.op, new.output, _attributes(new, graph), inputs, [made])
    inputs = tensors.of(root.inputs) if last.inputs is None else tensors.named(last.inputs)
    yield _node(root, last.op, _attributes(last, graph), inputs, tensors)


def _node(node: Any, op: str, attributes: Any, inputs: list[Any], tensors: _Tensors) -> Any:
    """Return a node under the same name with the same outputs."""
    return gs.Node(op, node.name, attributes, inputs, tensors.of(node.outputs), node.domain)


def _variable(name: str, output: Any, makes: Makes) -> Any:
    """Return a new value, declared as far as the site's output is: its dtype, or boolean, and its shape."""
    if not isinstance(output, gs.Variable):
        return gs.Variable(name)
    dtype = np.dtype(bool) if makes == "truth" and output.dtype is not None else output.dtype
    known = output.shape is not None and makes != "parameter"
    return gs.Variable(name, dtype, list(output.shape) if known else None)


def _constant_node(constant: NewConstant, tensors: _Tensors) -> Any:
    if constant.reference:
        attributes = {"value_float": gs.Node.AttributeRef(constant.reference, float)}
    else:
        attributes = {"value": gs.Constant(constant.name, constant.value)}
    output = tensors.add(gs.Variable(constant.name))
    return gs.Node("Constant", constant.name, OrderedDict(attributes), outputs=[output])


def _attributes(new: NewNode, graph: Any) -> OrderedDict[str, Any]:
    attributes: OrderedDict[str, Any] = OrderedDict()
    for stated in new.attributes:
        if isinstance(stated, AttributeProto):
            attributes[stated.name] = _imported(stated, graph)
        else:
            attributes[stated[0]] = stated[1]
    return attributes


def _imported(attribute: AttributeProto, graph: Any) -> Any:
    """Return an attribute as graphsurgeon holds it; a reference to a function's attribute is an AttributeRef."""
    with G_LOGGER.suppress(severity=G_LOGGER.CRITICAL + 1):
        imported = OnnxImporter.import_attributes([attribute], {}, {}, graph.opset, graph.import_domains)
    if attribute.name not in imported:
        kind = AttributeProto.AttributeType.Name(attribute.type)
        raise ModelError(f"onnx-graphsurgeon has no attributes of type {kind}, which {attribute.name!r} has")
    return imported[attribute.name]
