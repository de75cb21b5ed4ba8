"""(model, name of a graph input) -> every node that its values reach unchanged: what decides which they may be.

The name is followed through ops that pass values on, into bodies and local functions, and out of them:
x -> Cast -> Unsqueeze -> Gather(table, here).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from onnxact.check.graph import all_graphs, constants, declared_shape, overridable_inputs, required_inputs, subgraphs
from onnxact.check.sizes import UNKNOWN, Sizes
from onnxact.model.schema import plain

Dims = tuple[int | str, ...]

_DEEPEST = 8
"""Local functions inside local functions that are followed."""
_WITH_BODIES = frozenset({"If", "Loop", "Scan"})
_IN_ORDER = ("Identity", "Cast", "CastLike", "Unsqueeze", "Squeeze", "Reshape", "Flatten")
# Ops that hand on the values of these inputs, unchanged, to all their outputs.
_PASSES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(_IN_ORDER, (0,)),
    **dict.fromkeys(("Transpose", "Expand", "Slice", "Gather", "GatherElements", "GatherND", "Tile", "Split"), (0,)),
    **dict.fromkeys(("Pad", "ReverseSequence", "Clip", "CumSum", "ReduceMax", "ReduceMin"), (0,)),
    **dict.fromkeys(("Max", "Min", "Concat"), tuple(range(64))),
    "Where": (1, 2),
}


@dataclass(frozen=True)
class Facts:
    """What graphs say of their values, looked up when it is asked for.

    `known` are shapes from elsewhere, `opset` the version of ONNX's own ops.
    """

    graphs: Sequence[GraphProto]
    known: Mapping[str, Dims]
    opset: int

    @cached_property
    def tensors(self) -> Mapping[str, TensorProto]:
        """Name -> the value of a constant."""
        return {name: tensor for graph in self.graphs for name, tensor in constants(graph).items()}

    @cached_property
    def shapes(self) -> Mapping[str, Dims]:
        """Name -> the dimensions, as far as they are declared or follow at once."""
        shapes: dict[str, Dims] = {}
        for graph in self.graphs:
            for value in (*graph.input, *graph.value_info, *graph.output):
                shape = declared_shape(value.type.tensor_type)
                if shape is not None:
                    shapes[value.name] = shape
        shapes.update({name: tuple(tensor.dims) for name, tensor in self.tensors.items()})
        shapes.update(self.known)
        for graph in self.graphs:
            _add_same_shapes(graph, shapes)
        return shapes


@dataclass(frozen=True)
class Scope:
    """The main graph with its bodies, or a local function: who reads a name, and what is known of its value.

    `outside`: an output of a body -> the names that it has outside the body. `sizes`: what stands for open dimensions.
    """

    readers: Mapping[str, Sequence[tuple[NodeProto, int]]]
    outside: Mapping[str, Sequence[str]]
    facts: Facts
    sizes: Sizes

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """The shape of a value, with None for a size that is not known; None without even a rank."""
        dims: Dims | None = self.sizes.shapes.get(name)
        if dims is None:
            dims = self.facts.shapes.get(name)
        return None if dims is None else tuple(self.sizes.symbols.get(d) if isinstance(d, str) else d for d in dims)

    def integers(self, name: str) -> tuple[int, ...]:
        """The values of a constant of at most 16 integers; nothing where it is no such constant."""
        tensor = self.facts.tensors.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return ()
        array = numpy_helper.to_array(tensor)
        return tuple(int(value) for value in array.ravel()) if array.dtype.kind in "iu" and array.size <= 16 else ()


@dataclass(frozen=True)
class Way:
    """How a value got to `name`: what was added to it, whether all of it is there in its order, and beside what."""

    name: str
    added: int = 0
    whole: bool = True
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Use:
    """A node that the value reaches, as its input number `position`."""

    scope: Scope
    node: NodeProto
    position: int
    way: Way


@dataclass(frozen=True)
class Readers:
    """A model, indexed by who reads what."""

    model: ModelProto

    def uses(self, name: str, sizes: Sizes = UNKNOWN) -> tuple[Use, ...]:
        """Every use of the main-graph value `name`, with `sizes` for open dimensions."""
        scope = replace(self.scope, sizes=sizes)
        return tuple(self._follow(scope, {name: Way(name)}, 0))

    @cached_property
    def scope(self) -> Scope:
        """The main graph and its bodies; a name is taken to mean the same in all of them."""
        graphs = list(all_graphs(self.model.graph))
        nodes = [node for graph in graphs for node in graph.node]
        return Scope(_readers(nodes), _outside(nodes), Facts(graphs, {}, self._opset), UNKNOWN)

    @cached_property
    def required(self) -> tuple[ValueInfoProto, ...]:
        """The graph inputs that a caller has to feed."""
        return tuple(required_inputs(self.model.graph))

    @cached_property
    def overridable(self) -> tuple[str, ...]:
        """The graph inputs that have a default value."""
        return tuple(overridable_inputs(self.model.graph))

    @cached_property
    def _opset(self) -> int:
        return max((entry.version for entry in self.model.opset_import if not plain(entry.domain)), default=1)

    @cached_property
    def _functions(self) -> Mapping[tuple[str, str], FunctionProto]:
        return {(function.domain, function.name): function for function in self.model.functions}

    @cached_property
    def loop_conditions(self) -> frozenset[str]:
        """What the bodies of loops give to say whether there is another turn."""
        loops = (node for graph in self.scope.facts.graphs for node in graph.node if node.op_type == "Loop")
        return frozenset(body.output[0].name for node in loops for body in subgraphs(node))

    def function(self, node: NodeProto) -> FunctionProto | None:
        """The local function that a node calls."""
        return self._functions.get((node.domain, node.op_type)) if self.model.functions else None

    def _follow(self, scope: Scope, ways: dict[str, Way], depth: int) -> Iterator[Use]:
        """Breadth first; `ways` gets every name that the value takes in this scope."""
        pending = list(ways.values())
        while pending:
            way = pending.pop()
            onward = [replace(way, name=name, whole=False) for name in scope.outside.get(way.name, ())]
            for node, position in scope.readers.get(way.name, ()):
                use = Use(scope, node, position, way)
                yield use
                onward += _onward(use)
                onward += yield from self._through_function(use, depth)
            fresh = {step.name: step for step in onward if step.name and step.name not in ways}
            ways.update(fresh)
            pending += fresh.values()

    def _through_function(self, use: Use, depth: int) -> Generator[Use, None, list[Way]]:
        """The uses inside a local function; returns the outputs of the call that the value reaches."""
        function = self.function(use.node)
        if function is None or use.position >= len(function.input) or depth > _DEEPEST:
            return []
        formal = function.input[use.position]
        arguments = zip(function.input, use.node.input, strict=False)
        shapes = {inner: tuple(size or "" for size in use.scope.shape(outer) or ()) for inner, outer in arguments}
        known = {inner: dims for inner, dims in shapes.items() if dims}
        body = list(function.node)
        sizes = replace(use.scope.sizes, shapes={})
        scope = Scope(_readers(body), _outside(body), Facts((_stored(body),), known, self._opset), sizes)
        ways = {formal: replace(use.way, name=formal)}
        yield from self._follow(scope, ways, depth + 1)
        results = zip(function.output, use.node.output, strict=False)
        return [replace(ways[inner], name=outer) for inner, outer in results if inner in ways]


def _add_same_shapes(graph: GraphProto, shapes: dict[str, Dims]) -> None:
    """A float16 table is often Cast, a quantized one dequantized, before it is gathered from."""
    for node in graph.node:
        if node.op_type in {"Cast", "Identity", "DequantizeLinear"} and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])


def _stored(nodes: Iterable[NodeProto]) -> GraphProto:
    """The constants of a function's body that do not depend on the call."""
    return GraphProto(node=[n for n in nodes if n.op_type == "Constant" and not n.attribute[0].ref_attr_name])


def _readers(nodes: Iterable[NodeProto]) -> dict[str, list[tuple[NodeProto, int]]]:
    found: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in nodes:
        for position, name in enumerate(node.input):
            if name:
                found.setdefault(name, []).append((node, position))
    return found


def _outside(nodes: Iterable[NodeProto]) -> dict[str, list[str]]:
    """What the outputs of bodies become: outputs of their node, and in a loop what enters the next turn."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        for body in subgraphs(node) if node.op_type in _WITH_BODIES else ():
            for inner, outer in _results(node, body):
                found.setdefault(inner, []).append(outer)
    return found


def _results(node: NodeProto, body: GraphProto) -> Iterator[tuple[str, str]]:
    outputs = [value.name for value in body.output]
    if node.op_type == "Loop":
        yield from zip(outputs[1:], node.output, strict=False)
        yield from zip(outputs[1:], [value.name for value in body.input][2:], strict=False)
    else:
        yield from zip(outputs, node.output, strict=False)


def _onward(use: Use) -> Iterator[Way]:
    """The names that carry the same values on."""
    node, position, way = use.node, use.position, use.way
    if position in _PASSES.get(node.op_type, ()):
        others = tuple(name for name in node.input if name and name != way.name) if node.op_type == "Concat" else ()
        whole = way.whole and node.op_type in (*_IN_ORDER, "Concat")
        yield from (replace(way, name=name, whole=whole, beside=way.beside + others) for name in node.output)
    elif node.op_type in {"Add", "Sub"}:
        yield from _moved(use)
    elif node.op_type in {"Loop", "Scan"}:
        names = [body.input[position].name for body in subgraphs(node) if position < len(body.input)]
        yield from (replace(way, name=name, whole=way.whole and node.op_type == "Loop") for name in names)


def _moved(use: Use) -> Iterator[Way]:
    node = use.node
    amount = use.scope.integers(node.input[1 - use.position])
    if len(amount) == 1 and (node.op_type == "Add" or use.position == 0):
        by = amount[0] if node.op_type == "Add" else -amount[0]
        yield replace(use.way, name=node.output[0], added=use.way.added + by)
