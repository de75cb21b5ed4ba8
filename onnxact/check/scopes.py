"""(model, scope paths) -> the graphs that names in a scope are looked up in, and which scope of another model it is.

"/If_25.then_branch"  ->  (the branch, the main graph)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from onnx import FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from onnxact.model.scope import Scope
from onnxact.model.view import View

Graph = GraphProto | FunctionProto
Stored = TensorProto | SparseTensorProto


class Level:
    """What one graph says of the names in it. The graph must not change.

    `weights` holds initializers that were left out of it, `scope` is the same graph, indexed.
    """

    def __init__(self, graph: Graph, weights: Level | None = None, *, scope: Scope | None = None) -> None:
        self.graph = graph
        self.weights = weights
        self.scope = scope

    @cached_property
    def makers(self) -> dict[str, tuple[int, NodeProto]]:
        """Value name -> the position of the node that computes it, and the node."""
        if self.scope is None:
            return {output: (at, node) for at, node in enumerate(self.graph.node) for output in node.output if output}
        nodes = self.scope.nodes
        return {name: (at, nodes[at]) for name, at in self.scope.producers.items() if name}

    @cached_property
    def stored(self) -> dict[str, Stored]:
        """Value name -> its initializer, dense or sparse."""
        if self.weights is not None:
            return self.weights.stored
        if isinstance(self.graph, FunctionProto):
            return {}
        dense: dict[str, Stored] = {tensor.name: tensor for tensor in self.graph.initializer}
        return {**dense, **{tensor.values.name: tensor for tensor in self.graph.sparse_initializer}}

    @cached_property
    def inputs(self) -> frozenset[str]:
        """The names whose values come from outside, whatever their initializer says."""
        if self.weights is not None:
            return self.weights.inputs
        if isinstance(self.graph, FunctionProto):
            return frozenset(self.graph.input)
        return frozenset(value.name for value in self.graph.input)

    @property
    def folder(self) -> Path | None:
        """Where external data lie, as far as that is known."""
        if self.weights is not None:
            return self.weights.folder
        return None if self.scope is None else self.scope.view.folder

    def declares(self, name: str) -> bool:
        """Whether the name is bound here."""
        return name in self.makers or name in self.stored or name in self.inputs


@dataclass(frozen=True)
class Chain:
    """The levels in which the names of a scope are looked up, the innermost first."""

    levels: tuple[Level, ...]

    def owner(self, name: str) -> Level | None:
        """The innermost level that binds the name."""
        return next((level for level in self.levels if level.declares(name)), None)


def matching_paths(before: View, after: View) -> Mapping[str, str]:
    """Scope path in `before` -> the path in `after` of the scope that stands in the same place.

    Bodies are in the same place where the nodes that hold them have the same name, or without one, are the same of
    their op in order; functions have names. A path alone does not do, since it counts the nodes before.
    """
    first, second = _by_place(before), _by_place(after)
    return {path: second[place] for place, path in first.items() if place in second}


def _by_place(view: View) -> dict[str, str]:
    """Place -> scope path."""
    places: dict[str, str] = {}
    roots = [(scope.path, scope) for scope in view.scopes if scope.parent is None]
    for place, scope in roots:
        places[place] = scope.path
        places.update(_below(scope, place))
    return places


def _below(scope: Scope, place: str) -> Iterator[tuple[str, str]]:
    seen: dict[str, int] = {}
    for index in sorted({index for index, _ in scope.children}):
        node = scope.nodes[index]
        name = node.name or node.op_type
        seen[name] = seen.get(name, 0) + 1
        for (at, attribute), child in scope.children.items():
            if at == index:
                below = f"{place}/{name}#{seen[name]}.{attribute}"
                yield below, child.path
                yield from _below(child, below)
