"""A graph -> a digest of every value: of how it is computed, so that values with equal digests are equal.

In two models, x -> Conv(x, w) -> a and x -> Conv(x, w) -> 17 have the same digest, whatever the names of a, w and 17.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from onnxact.check.graph import constants, subgraphs
from onnxact.check.region import producer_indices, reads, topological

Digests = Mapping[str, bytes]
_ONNX = {"", "ai.onnx"}


class Indexed:
    """The main graph of a model, indexed: nodes in topological order, who makes a value, who reads it."""

    def __init__(self, graph: GraphProto, folder: Path | None) -> None:
        self.graph = graph
        self.folder = folder
        self.nodes: Sequence[NodeProto] = graph.node
        self.made_by = producer_indices(graph.node)
        self.constants = constants(graph)
        self.stored = {tensor.values.name: tensor for tensor in graph.sparse_initializer}

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The positions of the nodes, each after those that it reads from; else as they stand."""
        return topological(self.nodes, self.made_by)

    @cached_property
    def readers(self) -> dict[str, list[tuple[int, int]]]:
        """Value name -> (node position, input position) of the nodes that read it, bodies not counted."""
        found: dict[str, list[tuple[int, int]]] = {}
        for index, node in enumerate(self.nodes):
            for position, name in enumerate(node.input):
                if name:
                    found.setdefault(name, []).append((index, position))
        return found

    @property
    def computed(self) -> tuple[str, ...]:
        """The values that nodes other than constants make, in topological order."""
        names = (name for index in self.order for name in self.nodes[index].output if name)
        return tuple(name for name in names if name not in self.constants)

    def is_given(self, name: str) -> bool:
        """Whether a value is neither computed nor constant: an input of the graph."""
        return name not in self.made_by and name not in self.constants and name not in self.stored

    def digests(self, *, weights: bool) -> Digests:
        """Value name -> digest. With `weights`, of everything; without, constants count by type and shape alone."""
        found = {value.name: digest(b"input", value.name.encode()) for value in self.graph.input}
        found = {**self.constant_digests(weights=weights), **found}
        for index in self.order:
            node = self.nodes[index]
            if any(name not in found for name in node.output if name):
                whole = _node_digest(node, found)
                found.update((name, digest(whole, bytes([at]))) for at, name in enumerate(node.output) if name)
        return found

    def layers(self, *, weights: bool) -> Digests:
        """Computed value -> digest of its node with its weights, whatever else enters; only nodes that have weights.

        Weights are constants of more than one element.
        """
        constant = self.constant_digests(weights=weights)
        large = {name for name, tensor in self.constants.items() if math.prod(tensor.dims) > 1} | set(self.stored)
        found: dict[str, bytes] = {}
        for node in self.nodes:
            if not large.isdisjoint(node.input):
                whole = _node_digest(node, {name: constant.get(name, b"") for name in node.input})
                found.update((name, digest(whole, bytes([at]))) for at, name in enumerate(node.output) if name)
        return found

    def constant_digests(self, *, weights: bool) -> dict[str, bytes]:
        """Constant -> digest of its content, or of its type and shape alone."""
        found = {name: tensor_digest(item, self.folder, weights=weights) for name, item in self.constants.items()}
        for name, sparse in self.stored.items():
            found[name] = digest(b"sparse", sparse.SerializeToString(deterministic=True) if weights else b"")
        return found


def op_of(node: NodeProto) -> str:
    """The op type, with its domain unless that is ONNX's own."""
    return node.op_type if node.domain in _ONNX else f"{node.domain}.{node.op_type}"


def attributes_of(node: NodeProto) -> dict[str, bytes]:
    """Attribute name -> its bytes without the name and the documentation, so that equal ones are equal."""
    found = {}
    for item in node.attribute:
        plain = type(item)()
        plain.CopyFrom(item)
        plain.ClearField("doc_string")
        found[item.name] = plain.SerializeToString(deterministic=True)
    return found


def _node_digest(node: NodeProto, known: Digests) -> bytes:
    parts = [op_of(node).encode(), b"%d" % len(node.output) if node.op_type == "Split" else b""]
    for name, value in sorted(attributes_of(node).items()):
        parts += [name.encode(), value]
    parts += [known.get(name, b"missing " + name.encode()) if name else b"" for name in node.input]
    if any(True for _ in subgraphs(node)):
        parts += [known.get(name, b"") for name in reads(node)]
    return digest(*parts)


def tensor_digest(tensor: TensorProto, folder: Path | None, *, weights: bool) -> bytes:
    """Of the type and shape of a constant, with `weights` of its content too, whatever its name."""
    shape = [b"tensor", str(tensor.data_type).encode(), str(list(tensor.dims)).encode()]
    return digest(*shape, *(_content(tensor, folder) if weights else ()))


def _content(tensor: TensorProto, folder: Path | None) -> Iterator[bytes]:
    """The bytes in their order in memory, whatever field holds them; of external data, where they are stored."""
    if tensor.data_location == TensorProto.EXTERNAL:
        yield str(folder).encode()
        yield from (f"{entry.key}={entry.value}".encode() for entry in tensor.external_data)
    elif tensor.HasField("raw_data"):
        yield tensor.raw_data
    elif tensor.data_type == TensorProto.STRING:
        yield from tensor.string_data
    else:
        yield numpy_helper.to_array(tensor).tobytes()


def digest(*parts: bytes) -> bytes:
    """One digest of several byte strings, each with its length."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little"))
        hashed.update(part)
    return hashed.digest()
