"""(a site in its graph) -> the nodes from its input to its output with the constants that they read, as a part.

x -> [Mul 0.2] -> ax -> [Max x] -> y   ->   Part(nodes Mul and Max under the names x, v0, v1, constant 0.2)

Parts of two sites that are computed alike are equal to the byte, whatever their values are called.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

from onnxact.activation.primitives import PRIMITIVES
from onnxact.check.graph import attribute, subgraphs
from onnxact.check.placing import Instance
from onnxact.check.scopes import Chain, Level, Stored
from onnxact.check.subject import Subject
from onnxact.model.schema import plain

_ELEMENTWISE = (PRIMITIVES.keys() | {"Identity", "Cast", "CastLike", "Constant", "Dropout"}) - {
    "RandomNormal",
    "RandomNormalLike",
    "Uniform",
}
_INPUT, _OUTPUT = "x", "y"


@dataclass(frozen=True)
class Part:
    """Nodes from the value `x` to the value `y`, and what they read. Nodes and tensors are copies."""

    nodes: tuple[NodeProto, ...]
    stored: tuple[Stored, ...]

    @cached_property
    def key(self) -> bytes:
        """Equal for parts that compute the same in the same way."""
        return b"\0".join(item.SerializeToString(deterministic=True) for item in (*self.nodes, *self.stored))

    @property
    def foreign(self) -> str:
        """The first op that is not known to work element by element; "" where all do."""
        ops = (f"{node.domain}.{node.op_type}" if plain(node.domain) else node.op_type for node in self.nodes)
        return next((op for op in ops if op not in _ELEMENTWISE), "")

    @property
    def constant_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of all its constants."""
        found = [tuple(item.dims) for item in self.stored]
        for node in self.nodes:
            value, several = (attribute(node, name) for name in ("value", "value_floats"))
            if node.op_type == "Constant" and value is not None:
                found.append(tuple(value.t.dims))
            elif node.op_type == "Constant" and several is not None:
                found.append((len(several.floats),))
        return tuple(found)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The floating or integer constants of one element, and the numbers among the attributes; in order, no NaN."""
        tensors = [item for item in self.stored if isinstance(item, TensorProto)]
        found: set[float] = set()
        for node in self.nodes:
            for item in node.attribute:
                found.update((float(item.f),) if item.type == AttributeProto.FLOAT else map(float, item.floats))
                tensors += [item.t] if item.type == AttributeProto.TENSOR else []
        for tensor in tensors:
            if math.prod(tensor.dims) == 1 and tensor.data_location != TensorProto.EXTERNAL:
                array = numpy_helper.to_array(tensor)
                found.update(map(float, array.ravel()) if array.dtype.kind in "iufV" else ())
        return tuple(sorted(number for number in found if math.isfinite(number)))


def cut_out(instance: Instance) -> Part | str:
    """The part of one computation of a site, or why it cannot stand alone."""
    return _Cutter(instance.chain, instance.names[0]).run(instance.names[1])


def common_shape(parts: Sequence[Part]) -> tuple[int, ...] | None:
    """What the constants of all parts broadcast to; None where they do not."""
    try:
        return np.broadcast_shapes(*(shape for part in parts for shape in part.constant_shapes))
    except ValueError:
        return None


def joined(subject: Subject, parts: Sequence[Part], elem_types: Sequence[int]) -> Subject:
    """One model of all parts: the inputs x0, x1, ... of these element types and any shape, the outputs y0, y1, ..."""
    model = ModelProto(ir_version=max(subject.model.ir_version, 4))
    model.opset_import.extend(subject.model.opset_import)
    if any(plain(node.domain) for part in parts for node in part.nodes):
        model.functions.extend(subject.model.functions)
    model.graph.name = "sites"
    for number, (part, elem_type) in enumerate(zip(parts, elem_types, strict=True)):
        _add(model, part, number)
        model.graph.input.append(helper.make_tensor_value_info(f"{_INPUT}{number}", elem_type, None))
        model.graph.output.add().name = f"{_OUTPUT}{number}"
    return Subject(model, None, subject.folder, subject.options)


def _add(model: ModelProto, part: Part, number: int) -> None:
    def named(name: str) -> str:
        return name and (f"{name}{number}" if name in {_INPUT, _OUTPUT} else f"{name}_{number}")

    for node in part.nodes:
        added = model.graph.node.add()
        added.CopyFrom(node)
        _rename(added, {name: named(name) for name in (*node.input, *node.output)})
    for stored in part.stored:
        if isinstance(stored, TensorProto):
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(stored)
            tensor.name = named(stored.name)
        else:
            sparse = model.graph.sparse_initializer.add()
            sparse.CopyFrom(stored)
            sparse.values.name = named(stored.values.name)


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    inputs, outputs = ([names[name] for name in field] for field in (node.input, node.output))
    del node.input[:], node.output[:]
    node.input.extend(inputs)
    node.output.extend(outputs)


_Place = tuple[Level, str]
"""A value: the level that binds it, and its name."""


class _Cutter:
    """Walks from an output back to an input, giving every value a name by the order in which it is met."""

    def __init__(self, chain: Chain, entering: str) -> None:
        self.chain = chain
        self.entering = entering
        self.names: dict[tuple[int, str], str] = {}
        self.nodes: list[NodeProto] = []
        self.stored: list[Stored] = []

    def run(self, leaving: str) -> Part | str:
        first, last = self.chain.owner(self.entering), self.chain.owner(leaving)
        if first is None or last is None:
            return f"there is no value {(self.entering if first is None else leaving)!r}"
        self.names = {(id(last), leaving): _OUTPUT, (id(first), self.entering): _INPUT}
        return self._walk((last, leaving), {(id(first), self.entering)}) or Part(tuple(self.nodes), tuple(self.stored))

    def _walk(self, end: _Place, seen: set[tuple[int, str]]) -> str:
        """Take up what a value needs, makers before readers; return why that cannot be done."""
        stack: list[tuple[_Place, bool]] = [(end, False)]
        ready: dict[tuple[int, str], tuple[Level, NodeProto, list[_Place | None]]] = {}
        while stack:
            (level, name), is_complete = stack.pop()
            key = (id(level), name)
            if is_complete:
                self._take(*ready[key])
            elif key not in seen:
                seen.add(key)
                if name in level.stored:
                    self._store(level, name)
                    continue
                read = self._read(level, name)
                if isinstance(read, str):
                    return read
                node = level.makers[name][1]
                seen.update((id(level), output) for output in node.output)
                ready[key] = level, node, read
                stack.append(((level, name), True))
                stack.extend((place, False) for place in reversed(read) if place is not None)
        return ""

    def _read(self, level: Level, name: str) -> list[_Place | None] | str:
        """The inputs of the node that makes a value, None for one left out; a node sees its own level and outwards."""
        if name not in level.makers:
            return f"it also reads {name!r}"
        node = level.makers[name][1]
        if any(True for _ in subgraphs(node)):
            return f"node {node.name or name!r} holds a body"
        outward = Chain(self.chain.levels[self.chain.levels.index(level) :])
        found: list[_Place | None] = []
        for read in node.input:
            owner = outward.owner(read) if read else None
            if read and owner is None:
                return f"it also reads {read!r}"
            found.append(None if owner is None else (owner, read))
        return found

    def _take(self, level: Level, node: NodeProto, read: list[_Place | None]) -> None:
        copied = NodeProto(op_type=node.op_type, domain=node.domain, overload=node.overload)
        copied.attribute.extend(node.attribute)
        copied.input.extend("" if place is None else self._name(*place) for place in read)
        copied.output.extend(self._name(level, name) if name else "" for name in node.output)
        self.nodes.append(copied)

    def _name(self, level: Level, name: str) -> str:
        return self.names.setdefault((id(level), name), f"v{len(self.names)}")

    def _store(self, level: Level, name: str) -> None:
        stored = level.stored[name]
        if isinstance(stored, SparseTensorProto):
            sparse = SparseTensorProto()
            sparse.CopyFrom(stored)
            sparse.values.name = self._name(level, name)
            self.stored.append(sparse)
            return
        tensor = TensorProto()
        tensor.CopyFrom(stored)
        tensor.ClearField("doc_string")
        tensor.name = self._name(level, name)
        self.stored.append(tensor)
