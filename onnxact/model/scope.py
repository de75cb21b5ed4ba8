"""One list of nodes and what is known in it: producers, readers, constants, types.

Everything beyond the list of nodes is built when it is first asked for: a swap needs no readers, most need no shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto

from onnxact.model.constants import array_of, constant, constant_of
from onnxact.model.schema import plain
from onnxact.model.types import Shape, Types

if TYPE_CHECKING:
    from onnxact.model.view import View

OUTSIDE = -1
"""Stands for a reader that is no node of the scope: a graph output, an annotation, a training graph."""


_SMALL = 1 << 10
"""Elements of the largest constant that is kept once it has been read."""


class Scope:
    """One list of nodes with the names visible in it: the main graph, a subgraph, or a local function."""

    def __init__(
        self, view: View, graph: GraphProto | FunctionProto, path: str, parent: Scope | None, frozen: str = ""
    ) -> None:
        self.view = view
        self.graph = graph
        self.path = path
        self.parent = parent
        self.frozen = frozen
        """Why nothing may be edited here; empty where it may."""
        self.nodes: list[NodeProto] = list(graph.node)
        self.types = Types(self)
        self.remembered: dict[str, NDArray[Any] | None] = {}
        self.children: dict[tuple[int, str], Scope] = {}
        self._made_by: dict[int, tuple[str, ...]] = {}
        self.op_types: list[str] = []
        """The op type of every node; with its domain, `com.microsoft::FusedConv`, unless that is ONNX's own."""

    def __repr__(self) -> str:
        return f"<Scope {self.path or 'main graph'!r} of {len(self.nodes)} nodes>"

    @property
    def is_function(self) -> bool:
        """Whether this is a local function: no initializers, and its inputs have no declared types."""
        return isinstance(self.graph, FunctionProto)

    @property
    def root(self) -> Scope:
        """The main graph, function or training graph in which this scope is nested."""
        return self if self.parent is None else self.parent.root

    @cached_property
    def opsets(self) -> dict[str, int]:
        """Domain -> version; a function has its own. A domain imported twice counts with the higher version."""
        graph = self.root.graph
        imports = graph.opset_import if isinstance(graph, FunctionProto) else self.view.model.opset_import
        versions: dict[str, int] = {}
        for entry in imports:
            versions[plain(entry.domain)] = max(entry.version, versions.get(plain(entry.domain), 0))
        return versions

    @cached_property
    def opset(self) -> int:
        """The version of ONNX's own operator set; 1 where the model imports none (IR version 1 and 2)."""
        return self.opsets.get("", 1)

    @cached_property
    def producers(self) -> dict[str, int]:
        """Value name -> index of the node of this scope that computes it."""
        found: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            outputs = node.output
            if len(outputs) == 1:
                found[outputs[0]] = index
            else:
                found.update((name, index) for name in outputs if name)
        return found

    def made_by(self, index: int) -> tuple[str, ...]:
        """Return the ops of the nodes of this scope that make the inputs of a node, in alphabetical order."""
        found = self._made_by.get(index)
        if found is None:
            makers = [self.producers[name] for name in self.nodes[index].input if name and name in self.producers]
            found = self._made_by[index] = tuple(sorted([self.op_types[maker] for maker in makers]))
        return found

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """Value name -> indices of the nodes that read it, also from inside their subgraphs; OUTSIDE for the rest."""
        found: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in node.input:
                found.setdefault(name, []).append(index)
        for (index, _), child in self.children.items():
            for name in child.mentioned:
                found.setdefault(name, []).append(index)
        for name in self._read_outside():
            found.setdefault(name, []).append(OUTSIDE)
        return found

    def _read_outside(self) -> Iterator[str]:
        if isinstance(self.graph, FunctionProto):
            yield from self.graph.output
            return
        yield from (value.name for value in self.graph.output)
        for annotation in self.graph.quantization_annotation:
            yield annotation.tensor_name
            yield from (entry.value for entry in annotation.quant_parameter_tensor_names)
        if self.parent is None and not self.frozen:
            yield from self.view.names_in_training

    @cached_property
    def mentioned(self) -> set[str]:
        """Every value name that this scope or one nested in it reads or returns."""
        names = {name for node in self.nodes for name in node.input}
        return names.union(self._read_outside(), *(child.mentioned for child in self.children.values()))

    @cached_property
    def initializers(self) -> dict[str, TensorProto]:
        """Name -> initializer whose value is fixed: from IR version 4 one that is also an input can be overridden."""
        if isinstance(self.graph, FunctionProto):
            return {}
        inputs = {value.name for value in self.graph.input} if self.view.model.ir_version >= 4 else set()
        return {tensor.name: tensor for tensor in self.graph.initializer if tensor.name not in inputs}

    def declares(self, name: str) -> bool:
        """Tell whether the name is bound in this scope itself: an input, an initializer, or a node's output."""
        return name in self.producers or name in self.initializers or name in self.inputs or name in self.sparse

    @cached_property
    def sparse(self) -> dict[str, int]:
        """Name -> element type of every sparse initializer; its value counts as unknown."""
        if isinstance(self.graph, FunctionProto):
            return {}
        return {tensor.values.name: tensor.values.data_type for tensor in self.graph.sparse_initializer}

    @cached_property
    def inputs(self) -> dict[str, int]:
        """Input name -> position."""
        graph = self.graph
        names = graph.input if isinstance(graph, FunctionProto) else [value.name for value in graph.input]
        return {name: index for index, name in enumerate(names)}

    def states_always(self, attribute: str) -> bool:
        """Tell whether this function's attribute has a value at every call: stated there, or a default."""
        function = self.root.graph
        if not isinstance(function, FunctionProto):
            return False
        default = any(stated.name == attribute for stated in function.attribute_proto)
        pending = self.view._pending_attributes
        if default or (id(function), attribute) in pending:
            return True
        pending.add((id(function), attribute))
        always = all(
            any(stated.name == attribute and scope._has_value(stated) for stated in node.attribute)
            for scope, node in self.view.calls.of(function)
        )
        pending.discard((id(function), attribute))
        return always

    def _has_value(self, attribute: AttributeProto) -> bool:
        return not attribute.ref_attr_name or self.states_always(attribute.ref_attr_name)

    def owner(self, name: str) -> Scope | None:
        """Return the innermost scope from here outwards that binds the name."""
        scope: Scope | None = self
        while scope is not None and not scope.declares(name):
            scope = scope.parent
        return scope

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the value of a constant, or of nodes that only work on such; None where it is not fixed or readable.

        Small ones are kept: every pattern that is looked for asks for them.
        """
        if name in self.remembered:
            return self.remembered[name]
        value = constant(self, name)
        self.remember(name, value)
        return value

    def remember(self, name: str, value: NDArray[Any] | None) -> None:
        """Keep what was found out about a name, unless it is large."""
        if value is None or value.size <= _SMALL:
            self.remembered[name] = value

    def own_constant(self, name: str) -> NDArray[Any] | None:
        """Return the value of an initializer or a Constant node of this scope."""
        tensor = self.initializers.get(name)
        if tensor is None:
            index = self.producers.get(name)
            return None if index is None else constant_of(self.nodes[index])
        if tensor.data_location == TensorProto.EXTERNAL:
            return self.view.external(tensor)
        return array_of(tensor)

    @cached_property
    def declared(self) -> dict[str, TypeProto]:
        """Value name -> type as the model states it."""
        values: list[ValueInfoProto] = list(self.graph.value_info)
        if isinstance(self.graph, GraphProto):
            values += [*self.graph.input, *self.graph.output]
        return {value.name: value.type for value in values}

    def dtype(self, name: str) -> str | None:
        """Return "float16", "bfloat16", "float32" or "float64"; None for any other or an unknown element type."""
        return self.types.dtype(name)

    def shape(self, name: str, *, infer: bool = False) -> Shape | None:
        """Return a value's dimensions (int, symbol, or None each), or None for an unknown rank.

        As the model declares it; with `infer`, as onnx.shape_inference finds it where the model says nothing.
        """
        return self.types.shape(name, infer=infer)
