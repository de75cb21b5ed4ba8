"""A read-only view of a model: scopes, producers, readers, constants, element types, shapes.

    ModelProto  ->  View(scopes=[main graph, subgraphs at any depth, local functions, training graphs])

Everything beyond the list of nodes is built when it is first asked for: a swap needs no readers, most need no shapes.
Element types come from the model's own declarations and are carried along the ops' type variables (`onnx.defs`); only
where that does not reach is `onnx.shape_inference` run, on a copy without weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    numpy_helper,
    shape_inference,
)

from onnxact.activation.numeric import FLOATS, rounded
from onnxact.model.schema import FLOAT_TYPES, TypeRule, may_hold_bodies, plain, type_rules

Shape = tuple[int | str | None, ...]
OUTSIDE = -1
"""Stands for a reader that is no node of the scope: a graph output, an annotation, a training graph."""
PASSES_CONSTANTS = {"Identity", "Cast", "CastLike"}
"""Ops whose output is a constant where their first input is one."""
PENDING = -1
"""The element type of a value whose type is being found out further up."""
_FLOATS: dict[int, str] = {int(elem_type): name for elem_type, name in FLOAT_TYPES.items()}
_SMALL = 1024
_FROM_ATTRIBUTE = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype",
                   "RandomNormalLike": "dtype", "RandomUniformLike": "dtype", "Multinomial": "dtype"}  # fmt: skip

_BRANCHES = {"If": ("then_branch", 0), "Loop": ("body", 1), "Scan": ("body", 0)}
"""Op -> the subgraph that its outputs come from, and the position of the first there."""


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
        self.children: dict[tuple[int, str], Scope] = {}
        self.op_types: list[str] = []
        """The op type of every node; with its domain, `com.microsoft::FusedConv`, unless that is ONNX's own."""

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
        return name in self.producers or name in self.initializers or name in self.inputs or name in self._sparse

    @cached_property
    def _sparse(self) -> dict[str, int]:
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
            for scope, node in self.view.calls(function)
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
        """Return the value of an initializer or Constant node, or None where it is not fixed or not readable."""
        scope = self.owner(name)
        casts: list[str | None] = []
        passed: set[str] = set()
        while name and name not in passed and scope is not None:
            node = scope._passing(name)
            if node is None:
                return _through(casts, scope._own_constant(name))
            if node.op_type != "Identity":
                casts.append(scope.dtype(name))
            passed.add(name)
            name = node.input[0] if node.input else ""
            scope = scope.owner(name)
        return None

    def _passing(self, name: str) -> NodeProto | None:
        """Return the node of this scope that gives its first input on as `name`."""
        index = self.producers.get(name)
        node = self.nodes[index] if index is not None else None
        return node if node is not None and node.op_type in PASSES_CONSTANTS and not plain(node.domain) else None

    def _own_constant(self, name: str) -> NDArray[Any] | None:
        tensor = self.initializers.get(name)
        if tensor is None:
            index = self.producers.get(name)
            return None if index is None else _constant_of(self.nodes[index])
        if tensor.data_location == TensorProto.EXTERNAL:
            return self.view.external(tensor)
        return _array(tensor)

    # Types and shapes

    @cached_property
    def declared(self) -> dict[str, TypeProto]:
        """Value name -> type as the model states it."""
        values: list[ValueInfoProto] = list(self.graph.value_info)
        if isinstance(self.graph, GraphProto):
            values += [*self.graph.input, *self.graph.output]
        return {value.name: value.type for value in values}

    def dtype(self, name: str) -> str | None:
        """Return "float16", "bfloat16", "float32" or "float64"; None for any other or an unknown element type."""
        return _FLOATS.get(self.elem_type(name))

    def elem_type(self, name: str) -> int:
        """Return the TensorProto element type of a value, 0 where it cannot be told."""
        if self.only_type:
            return self.only_type
        known = self._elem_types
        trail: list[str] = []
        while (found := known.get(name)) is None:
            known[name] = 0  # what a cycle, or a function that calls itself, finds
            trail.append(name)
            found, name = self._elem_type_step(name)
            if not name:
                break
        for passed in trail:
            if found == PENDING:
                del known[passed]
            else:
                known[passed] = found or 0
        return found or 0

    @cached_property
    def _elem_types(self) -> dict[str, int]:
        """The element types found so far; at first those declared, carried along the nodes in their order."""
        known = {name: type_.tensor_type.elem_type for name, type_ in self.declared.items()}
        known = {name: found for name, found in known.items() if found}
        known.update((name, tensor.data_type) for name, tensor in self.initializers.items())
        follows = {op: _first_input_rules(op, self.opset) for op in set(self.op_types)}
        for op, node in zip(self.op_types, self.nodes, strict=True):
            if follows[op] and (inputs := node.input) and (found := known.get(inputs[0])) and not node.domain:
                known.update((output, found) for output in node.output[:1] if output not in known)
        return known

    @cached_property
    def only_type(self) -> int:
        """The element type of every value, where there can be no other: 0 where there can."""
        if self.parent is not None or isinstance(self.graph, FunctionProto):
            return 0
        types = {type_.tensor_type.elem_type for type_ in self.declared.values()}
        types.update(tensor.data_type for tensor in self.graph.initializer)
        if len(types) != 1 or not all(_first_input_rules(op, self.opset) for op in set(self.op_types)):
            return 0
        return types.pop()

    def _elem_type_step(self, name: str) -> tuple[int, str]:
        """Return the element type, or 0 and the name of the value that has the same one."""
        index = self.producers.get(name)
        if index is None:
            return self._elem_type_outside(name), ""
        declared = self.declared.get(name)
        if declared is not None and declared.tensor_type.elem_type:
            return declared.tensor_type.elem_type, ""
        node = self.nodes[index]
        return self._elem_type_of_output(node, index, list(node.output).index(name) if len(node.output) > 1 else 0)

    def _elem_type_outside(self, name: str) -> int:
        if name in self.initializers:
            return self.initializers[name].data_type
        if name in self._sparse:
            return self._sparse[name]
        declared = self.declared.get(name)
        if declared is not None and declared.tensor_type.elem_type:
            return declared.tensor_type.elem_type
        if self.is_function and name in self.inputs:
            return self.view.argument_type(cast(FunctionProto, self.graph), self.inputs[name])
        if self.parent is not None and name not in self.inputs:
            return self.parent.elem_type(name)
        return self._inferred_elem_type(name)

    def _inferred_elem_type(self, name: str) -> int:
        inferred = self.view.inferred(self.path).get(name)
        return inferred.tensor_type.elem_type if inferred is not None else 0

    def _elem_type_of_output(self, node: NodeProto, index: int, position: int) -> tuple[int, str]:
        op, domain = node.op_type, plain(node.domain)
        if domain == "" and (stated := _stated_type(node)):
            return stated, ""
        if (function := self.view.functions.get((domain, op, node.overload))) is not None:
            return function.elem_type(cast(FunctionProto, function.graph).output[position]), ""
        if branch := self._branch_output(op, index, position):
            return branch[0].elem_type(branch[1]), ""
        return self._elem_type_by_rule(node, type_rules(op, self.opsets.get(domain, 1), domain), position)

    def _elem_type_by_rule(self, node: NodeProto, rules: Sequence[TypeRule], position: int) -> tuple[int, str]:
        if rules:
            rule = rules[min(position, len(rules) - 1)]
            if rule.fixed:
                return rule.fixed, ""
            if 0 <= rule.input < len(node.input) and node.input[rule.input]:
                return 0, node.input[rule.input]
        return self._inferred_elem_type(node.output[position]), ""

    def _branch_output(self, op: str, index: int, position: int) -> tuple[Scope, str] | None:
        attribute, offset = _BRANCHES.get(op, ("", 0))
        child = self.children.get((index, attribute))
        if child is None or position + offset >= len(child.graph.output):
            return None
        return child, cast(GraphProto, child.graph).output[position + offset].name

    def shape(self, name: str, *, infer: bool = False) -> Shape | None:
        """Return a value's dimensions (int, symbol, or None each), or None for an unknown rank.

        As the model declares it; with `infer`, as onnx.shape_inference finds it where the model says nothing.
        """
        scope = self if self.parent is None else self.owner(name) or self
        if name in scope.initializers:
            return tuple(scope.initializers[name].dims)
        shape = _shape_of(scope.declared.get(name))
        if shape is None and infer:
            value = scope.constant(name) if name in scope.producers else None
            shape = value.shape if value is not None else _shape_of(self.view.inferred(scope.path).get(name))
        return shape


class View:
    """A model and its scopes. `folder` is where its external data lies, None for a model that has no place."""

    def __init__(self, model: ModelProto, folder: Path | None = None) -> None:
        self.model = model
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
        self._pending_arguments: set[tuple[int, int]] = set()
        self._pending_attributes: set[tuple[int, str]] = set()

    def _add(self, graph: GraphProto | FunctionProto, path: str, parent: Scope | None, frozen: str = "") -> Scope:
        path = self._unique(path)
        scope = Scope(self, graph, path, parent, frozen)
        self.scopes.append(scope)
        add = scope.op_types.append
        for index, node in enumerate(scope.nodes):
            op, domain = node.op_type, node.domain
            if domain and plain(domain):
                op = f"{domain}::{op}"
            add(op)
            if may_hold_bodies(op):
                for name, subgraph in subgraphs(node):
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

    @cached_property
    def names(self) -> set[str]:
        """Every name of a value or node in any scope."""
        found: set[str] = set(self.names_in_training)
        for scope in self.scopes:
            graph = scope.graph
            for node in scope.nodes:
                found.add(node.name)
                found.update(node.output)
                found.update(node.input)
            found.update(scope.inputs, scope._read_outside(), (value.name for value in graph.value_info))
            if isinstance(graph, GraphProto):
                found.update(tensor.name for tensor in graph.initializer)
                found.update(scope._sparse)
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

    def calls(self, function: FunctionProto) -> list[tuple[Scope, NodeProto]]:
        """Return every node that calls a local function, with its scope."""
        return self._calls.get((plain(function.domain), function.name, function.overload), [])

    @cached_property
    def _calls(self) -> dict[tuple[str, str, str], list[tuple[Scope, NodeProto]]]:
        found: dict[tuple[str, str, str], list[tuple[Scope, NodeProto]]] = {key: [] for key in self.functions}
        for scope in self.scopes:
            for node in scope.nodes:
                key = (plain(node.domain), node.op_type, node.overload)
                if key in found:
                    found[key].append((scope, node))
        return found

    def argument_type(self, function: FunctionProto, position: int) -> int:
        """Return the element type that every call of a local function passes at `position`, 0 where they differ."""
        key = (id(function), position)
        if key in self._pending_arguments:
            return PENDING  # a call on the function's own output has the type of the others
        self._pending_arguments.add(key)
        types = {
            scope.elem_type(node.input[position]) if position < len(node.input) else 0
            for scope, node in self.calls(function)
        }
        self._pending_arguments.discard(key)
        types.discard(PENDING)
        return types.pop() if len(types) == 1 else 0

    def inferred(self, path: str) -> dict[str, TypeProto]:
        """Return value name -> type in a scope, by onnx.shape_inference on a copy of the model without weights."""
        if self._inferred is None:
            self._inferred = {}
            try:
                inferred = shape_inference.infer_shapes(_without_weights(self.model))
            except (shape_inference.InferenceError, ValueError, RuntimeError):
                return {}
            for scope in View(inferred).scopes:
                self._inferred[scope.path] = scope.declared
        return self._inferred.get(path, {})


def subgraphs(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """Yield (attribute name, graph) for every subgraph of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from ((f"{attribute.name}[{number}]", graph) for number, graph in enumerate(attribute.graphs))


def _through(casts: list[str | None], value: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return a constant after casts to these dtypes, the last of which comes first."""
    for dtype in reversed(casts):
        value = None if value is None or dtype is None else rounded(value, FLOATS[dtype])
    return value


@cache
def _first_input_rules(op: str, opset: int) -> bool:
    """Tell whether the op's outputs have the element type of its first input."""
    rules = type_rules(op, opset, "")
    follow = bool(rules) and all(rule == TypeRule(0, 0) for rule in rules)
    return follow and op not in _FROM_ATTRIBUTE and op not in _BRANCHES


def _array(tensor: TensorProto) -> NDArray[Any] | None:
    """Return a tensor's value, None where its data does not fill its shape or its type is none."""
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):
        return None


def _constant_of(node: NodeProto) -> NDArray[Any] | None:
    if node.op_type != "Constant" or plain(node.domain) or not node.attribute:
        return None
    attribute = node.attribute[0]
    if attribute.ref_attr_name:
        return None
    if attribute.name == "value" and attribute.t.data_location != TensorProto.EXTERNAL:
        return _array(attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        stated: float | Sequence[float] = attribute.f if attribute.name == "value_float" else list(attribute.floats)
        return np.asarray(stated, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(attribute.i if attribute.name == "value_int" else list(attribute.ints), np.int64)
    return None


def _stated_type(node: NodeProto) -> int:
    """Return the element type that a node states for its output by an attribute, 0 where it does not."""
    if node.op_type in ("Constant", "ConstantOfShape"):
        return _type_of_constant(node)
    wanted = _FROM_ATTRIBUTE.get(node.op_type)
    return next((a.i for a in node.attribute if a.name == wanted), 0) if wanted else 0


def _type_of_constant(node: NodeProto) -> int:
    for attribute in node.attribute:
        if attribute.name in ("value", "sparse_value"):
            return attribute.t.data_type or attribute.sparse_tensor.values.data_type
        if attribute.name.startswith("value_"):
            return {"f": TensorProto.FLOAT, "i": TensorProto.INT64}.get(attribute.name[6], TensorProto.STRING)
    return TensorProto.FLOAT


def _shape_of(declared: TypeProto | None) -> Shape | None:
    if declared is None or not declared.tensor_type.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
        for dim in declared.tensor_type.shape.dim
    )


def _without_weights(model: ModelProto) -> ModelProto:
    """Return a copy in which initializers of more than a kilobyte became inputs: shapes are enough for inference."""
    copy = ModelProto(ir_version=max(model.ir_version, 4))
    copy.opset_import.extend(model.opset_import)
    if not model.opset_import:
        copy.opset_import.add(domain="", version=1)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name or "graph"
    for field in ("node", "input", "output", "value_info"):
        getattr(graph, field).extend(getattr(model.graph, field))
    inputs = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL and tensor.ByteSize() <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            graph.input.add(name=tensor.name).type.tensor_type.elem_type = tensor.data_type
            _set_shape(graph.input[-1], tensor.dims)
    return copy


def _set_shape(value: ValueInfoProto, dims: Iterable[int]) -> None:
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    for dim in dims:
        shape.dim.add(dim_value=dim)
