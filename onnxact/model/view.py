"""A read-only view of a model: its scopes, and what concerns all of them.

ModelProto  ->  View(scopes=[main graph, subgraphs at any depth, local functions, training graphs])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import Any

from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    shape_inference,
)

from onnxact.model.calls import Calls
from onnxact.model.inference import without_weights
from onnxact.model.schema import may_hold_bodies, plain
from onnxact.model.scope import Scope


class View:
    """A model and its scopes. `folder` is where its external data lies, None for a model that has no place.

    `recorded`: whether any node may bear provenance. That a field of 50,000 nodes is empty takes long to read.
    """

    def __init__(self, model: ModelProto, folder: Path | None = None, *, recorded: bool = True) -> None:
        self.model = model
        self.recorded = recorded
        self.folder = folder
        self.scopes: list[Scope] = []
        self._paths: Counter[str] = Counter()
        self.main = self._add(model.graph, "", None)
        self.functions: dict[tuple[str, str, str], Scope] = {}
        for function in model.functions:
            path = f"{function.domain}:{function.name}" + (f":{function.overload}" if function.overload else "")
            self.functions[plain(function.domain), function.name, function.overload] = self._add(function, path, None)
        for number, training in enumerate(model.training_info):
            for field in ("initialization", "algorithm"):
                graph = getattr(training, field)
                self._add(graph, f"training_info[{number}].{field}", None, "training graphs are left as they are")
        self._inferred: dict[str, dict[str, TypeProto]] | None = None
        self._pending_attributes: set[tuple[int, str]] = set()

    def _add(self, graph: GraphProto | FunctionProto, path: str, parent: Scope | None, frozen: str = "") -> Scope:
        path = self._unique(path)
        scope = Scope(self, graph, path, parent, frozen)
        self.scopes.append(scope)
        scope.op_types = _op_types(scope.nodes)
        holding = {op for op in set(scope.op_types) if may_hold_bodies(op)}
        if holding:
            for index, op in enumerate(scope.op_types):
                if op in holding:
                    for name, subgraph in subgraphs(node := scope.nodes[index]):
                        inner = f"{path}/{node.name or f'{node.op_type}#{index}'}.{name}"
                        scope.children[index, name] = self._add(subgraph, inner, scope, frozen)
        return scope

    def _unique(self, path: str) -> str:
        """Return the path, numbered where an earlier scope has the same one: node names need not be unique."""
        self._paths[path] += 1
        while self._paths[path] > 1:
            path = f"{path}#{self._paths[path]}"
            self._paths[path] += 1
        return path

    @cached_property
    def by_path(self) -> dict[str, Scope]:
        """Scope path -> scope."""
        return {scope.path: scope for scope in self.scopes}

    def names(self) -> set[str]:
        """Return every name of a node, and of a value that is bound in any scope; what a valid model reads is bound."""
        found: set[str] = set(self.names_in_training)
        for scope in self.scopes:
            graph, nodes = scope.graph, scope.nodes
            found.update([node.name for node in nodes])
            found.update(_outputs(nodes))
            found.update(scope.inputs, scope._read_outside(), (value.name for value in graph.value_info))
            if isinstance(graph, GraphProto):
                found.update(tensor.name for tensor in graph.initializer)
                found.update(scope.sparse)
        return found

    @cached_property
    def names_in_training(self) -> set[str]:
        """Every name that training_info mentions; what it refers to must stay."""
        names: set[str] = set()
        for training in self.model.training_info:
            for binding in (*training.initialization_binding, *training.update_binding):
                names.update((binding.key, binding.value))
        for scope in self.scopes:
            if scope.frozen and scope.parent is None:
                names |= scope.mentioned
        return names

    def external(self, tensor: TensorProto) -> NDArray[Any] | None:
        """Return the value of an initializer that lies in a file beside the model; None where it is not readable."""
        from onnxact.model.files import read_external

        return read_external(tensor, self.folder)

    @cached_property
    def calls(self) -> Calls:
        """The calls of local functions, and what they pass."""
        return Calls(self)

    def inferred(self, path: str) -> dict[str, TypeProto]:
        """Return value name -> type in a scope, by onnx.shape_inference on a copy of the model without weights."""
        if self._inferred is None:
            self._inferred = {}
            try:
                inferred = shape_inference.infer_shapes(without_weights(self.model))
            except (shape_inference.InferenceError, ValueError, RuntimeError):
                return {}
            for scope in View(inferred).scopes:
                self._inferred[scope.path] = scope.declared
        return self._inferred.get(path, {})


def _outputs(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """Yield every output of the nodes; most have one, which is fastest read by itself."""
    for node in nodes:
        if len(outputs := node.output) == 1:
            yield outputs[0]
        else:
            yield from outputs


def _op_types(nodes: Sequence[NodeProto]) -> list[str]:
    """Return the op type of every node; with its domain, `com.microsoft::FusedConv`, unless that is ONNX's own."""
    op_types = [intern(node.op_type) for node in nodes]
    for index, domain in enumerate([node.domain for node in nodes]):
        if domain and plain(domain):
            op_types[index] = f"{domain}::{op_types[index]}"
    return op_types


def subgraphs(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """Yield (attribute name, graph) for every subgraph of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from ((f"{attribute.name}[{number}]", graph) for number, graph in enumerate(attribute.graphs))
